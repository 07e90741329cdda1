"""Simulation: trajectories of an equation, in the file format of an archive."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

import torch
import xarray as xr
from pydantic import Field

from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.runs.thread_count import threads
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.location import Folder
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate_range
from pelagos.preprocessing.sources.formats.source import WRITERS
from pelagos.preprocessing.sources.writer import BlockWriter


class SimulateStage(Config):
    """What to simulate, and the file to write it to.

    Attributes:
        simulation: the trajectories.
        format: the file format: PDEGym's netCDF-4, PDEBench's HDF5 of flow or of diffusion-reaction, The Well's HDF5,
            or netCDF-4 by CF, which alone holds fields on the sphere.
        output: the file.
        drop: variables to leave out, such as scalars that the format cannot hold.
        workers: the number of processes that simulate in parallel.
        overwrite: whether an existing file is replaced.
    """

    command: Literal["simulate"] = "simulate"
    simulation: SimulateConfig
    format: Literal["pdegym", "pdebench_flow", "pdebench_diffusion_reaction", "the_well", "cf"]
    output: Folder
    drop: tuple[str, ...] = ()
    workers: int = Field(default=1, gt=0)
    overwrite: bool = False


def run(config: SimulateStage) -> Path:
    """Simulate and write the file of a configuration.

    Raises:
        ConfigError: the file exists and is not to be overwritten, or `drop` names an unknown variable.
    """
    if config.output.exists() and not config.overwrite:
        raise ConfigError(f"{config.output} exists: give another output=, or overwrite=true")
    simulation = config.simulation
    starts = range(0, simulation.num_trajectories, simulation.batch)
    with bar(simulation.equation.kind, simulation.num_trajectories) as show:
        writer: BlockWriter | None = None
        for made in _blocks(simulation, starts, config.workers):
            made = _without(made, config.drop)
            if writer is None:
                writer = WRITERS[config.format](config.output, made, simulation.num_trajectories)
                writer.__enter__()
            writer.append(made)
            show(writer.position)
        assert writer is not None
        writer.close()
    return config.output


def _without(made: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    if unknown := [name for name in names if name not in made.data_vars]:
        raise ConfigError(
            f"drop: no variable {unknown[0]!r}; there are {', '.join(map(str, made.data_vars))}"
        )
    return made.drop_vars(names)


def _blocks(simulation: SimulateConfig, starts: range, workers: int) -> Iterator[xr.Dataset]:
    """The blocks in order, simulated in parallel; at most two for each worker are in memory."""
    stops = [min(start + simulation.batch, simulation.num_trajectories) for start in starts]
    if workers == 1:
        # As workers compute, or the file would depend on their number.
        with threads(1):
            yield from (
                simulate_range(simulation, start, stop) for start, stop in zip(starts, stops, strict=True)
            )
        return
    # A forked process may inherit locks that torch's threads hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        pairs = list(zip(starts, stops, strict=True))
        waiting = [pool.submit(simulate_range, simulation, *pair) for pair in pairs[: 2 * workers]]
        for number in range(len(pairs)):
            made = waiting.pop(0).result()
            if number + 2 * workers < len(pairs):
                waiting.append(pool.submit(simulate_range, simulation, *pairs[number + 2 * workers]))
            yield made


def _one_thread() -> None:
    """Give a worker one thread: several such processes simulate faster than one with several threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
