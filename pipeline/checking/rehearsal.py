"""Rehearsal: two real optimiser steps of a run's most expensive samples, in a temporary folder."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pelagos.pipeline.engine import checkpoint, distributed
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.tracking.tracker import Tracker
from pelagos.pipeline.training.memory import peak_memory
from pelagos.pipeline.training.objective import ObjectiveConfig
from pelagos.pipeline.training.throughput import ThroughputMeter
from pelagos.pipeline.training.training_run import TrainingStage, build_trainer, prepare
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Block, Mixture

STEPS = 2
"""The first step allocates, compiles and fills caches; the second is timed."""
_SAMPLED_STEPS = 1000  # enough for the mean over a curriculum


class RunCost:
    """The cost of training on the samples of a run, in operations.

    Attributes:
        worst: the position of the dataset with the most expensive samples at the end of training, when rollouts are
            longest.
        calls: the network's calls for such a sample.
        most: the cost of such a sample.
        mean: the mean cost of a sample, over all datasets by their shares and over the whole run.
    """

    def __init__(
        self, mixture: Mixture, flops: Mapping[str, float], steps: int, objective: ObjectiveConfig
    ) -> None:
        costs = np.array([flops[dataset.layout.dataset] for dataset in mixture.datasets])

        def passes(dataset: Dataset, step: int) -> int:
            return objective.passes(dataset.sampling.kind, dataset.sampling.steps_at(step))

        sampled = range(0, steps, max(1, steps // _SAMPLED_STEPS))
        means = [np.mean([passes(dataset, step) for step in sampled]) for dataset in mixture.datasets]
        longest = [passes(dataset, steps - 1) for dataset in mixture.datasets]
        values = [_values(dataset.layout) for dataset in mixture.datasets]
        # Without counted operations, as in a network without matrix products, the number of values decides.
        self.worst = max(range(len(costs)), key=lambda n: (longest[n] * costs[n], longest[n] * values[n]))
        self.calls = mixture.datasets[self.worst].sampling.steps_at(steps - 1)
        self.most = float(longest[self.worst] * costs[self.worst])
        self.mean = float(np.average(means * costs, weights=mixture.shares))


def _values(layout: Layout) -> int:
    return (len(layout.channels) + len(layout.outputs)) * prod(layout.grid.shape)


@dataclass(frozen=True)
class Rehearsal:
    """What the steps of a rehearsal took.

    Attributes:
        dataset: the dataset with the most expensive samples.
        calls: forecast steps of its samples.
        seconds: time of the second step [s].
        typical: estimated time of the whole run, by the operations of its datasets and curricula [s].
        most: time of the whole run if every step were the most expensive [s].
        memory: peak memory of this process on the host [bytes].
        allocated: peak memory of tensors on its GPU, 0 without one [bytes].
        reserved: peak memory that torch held there [bytes].
        checkpoint: size of a checkpoint on disk [bytes].
    """

    dataset: Dataset
    calls: int
    seconds: float
    typical: float
    most: float
    memory: int
    allocated: int
    reserved: int
    checkpoint: int


def rehearse(config: TrainingStage, cost: RunCost, processes: int) -> Rehearsal:
    """Take the steps that one of the run's processes would; all processes of a launcher call it.

    Args:
        config: the run, whose folder is left alone.
        cost: the cost of its samples.
        processes: the number of processes that the run will have.

    Raises:
        ConfigError: the GPU's memory is too small.
        DataError: the loss is not finite.
    """
    with TemporaryDirectory(prefix="pelagos-check-") as name:
        folder = Path(name)
        short = _shortened(config, folder, processes)
        digest = prepare(short)
        model, mixture = short.assemble()
        clock = _Clock()
        try:
            with closing(mixture):
                _steps(short, model, mixture, cost, clock, digest)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"loop.micro_batch: {short.loop.micro_batch} samples with {cost.calls} forecast step(s) need more"
                f" than the GPU's memory; take fewer, or network.checkpointing where there is one: {error}"
            ) from error
        written = checkpoint.path_of(folder / "checkpoints", STEPS)
        size = sum(file.stat().st_size for file in written.glob("*"))
    seconds = clock.times[1] - clock.times[0]
    gpu = distributed.has_gpu()
    return Rehearsal(
        dataset=mixture.datasets[cost.worst],
        calls=cost.calls,
        seconds=seconds,
        typical=seconds * config.loop.steps * (cost.mean / cost.most if cost.most else 1.0),
        most=seconds * config.loop.steps,
        memory=peak_memory(),
        allocated=torch.cuda.max_memory_allocated() if gpu else 0,
        reserved=torch.cuda.max_memory_reserved() if gpu else 0,
        checkpoint=size,
    )


def _shortened(config: TrainingStage, folder: Path, processes: int) -> TrainingStage:
    loop, world = config.loop, distributed.world()
    # The micro-batches of one process, whose time and memory are measured.
    changes = {
        "steps": STEPS,
        "batch_size": loop.micro_batch * config.accumulation(processes) * config.engine.groups(world),
        "validate_every": 0,
        "checkpoint_every": 0,
        "log_every": 1,
        "ledger": False,
    }
    return config.model_copy(update={"output": folder, "loop": loop.model_copy(update=changes)})


def _steps(
    config: TrainingStage, model: Model, mixture: Mixture, cost: RunCost, clock: "_Clock", digest: str
) -> None:
    trainer = build_trainer(config, model, mixture, ThroughputMeter({}, config.objective, peak=1.0), clock)
    if config.loop.patience or config.loop.kept == "best":
        trainer.best.keep(trainer.ema.share(), trainer.engine.buffers())  # as after a first validation
    trainer.run(_WorstCase(mixture, cost), {}, digest, "check")


class _Clock(Tracker):
    """Records when each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker.metrics."""
        self.times.append(time.perf_counter())


class _WorstCase:
    """An order that repeats one micro-batch of the most expensive samples."""

    def __init__(self, mixture: Mixture, cost: RunCost) -> None:
        self.datasets, self.micro_batch = mixture.datasets, mixture.micro_batch
        # Again from the first where a dataset has fewer samples than a micro-batch.
        samples = np.arange(self.micro_batch) % self.datasets[cost.worst].num_samples
        request = self.datasets[cost.worst].request(samples)
        self._block = Block(cost.worst, samples, cost.calls, request)
        self._blocks_per_step = mixture.blocks_per_step

    def blocks(self, rank: int, world: int, start_step: int, num_steps: int | None) -> Iterator[Block]:
        """See Order."""
        assert num_steps is not None
        return repeat(self._block, num_steps * self._blocks_per_step // world)

    def numbers(self, step: int, rank: int, world: int) -> list[int]:
        """See TrainingOrder."""
        return list(range(step * self._blocks_per_step + rank, (step + 1) * self._blocks_per_step, world))
