"""Stores of simulated trajectories, for tests of what reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

WAVE: Mapping[str, Any] = {"kind": "wave"}


def simulated_store(
    folder: Path,
    simulation: Mapping[str, Any],
    splits: Mapping[str, int],
    *,
    equation: Mapping[str, Any] = WAVE,
    dataset: str = "waves",
) -> Path:
    """The path of a store, built in a folder by way of an archive.

    Args:
        folder: what archive and store are written to.
        simulation: numbers of trajectories and frames, shape and interval.
        splits: numbers of trajectories held out, by split.
        equation: its configuration.
        dataset: the name of the archive and of the dataset.
    """
    config = SimulateConfig.model_validate({"equation": equation, **simulation})
    archive = folder / f"{dataset}.hdf5"
    well_writer.write(simulate(config), archive)
    values = {
        "dataset": dataset,
        "source": {"kind": "the_well", "paths": str(archive)},
        "root": str(folder / "stores"),
        "splits": {"kind": "trajectories", **splits},
    }
    return build(BuildConfig.model_validate(values))
