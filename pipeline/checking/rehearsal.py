"""Rehearsal: two real optimiser steps of a run's worst case, in a folder that is thrown away."""

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
from pelagos.pipeline.training.throughput import Meter
from pelagos.pipeline.training.training_run import TrainingStage, prepare, trainer_of
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Block, Mixture

STEPS = 2
"""The first allocates, compiles and fills caches; the second is timed."""
_LOOKS = 1000


class Load:
    """What the samples of a run cost, in operations of training on them.

    Attributes:
        worst: the position of the dataset whose samples cost most at the end of training, when rollouts are longest.
        calls: of the network for a sample of that dataset then.
        most: the cost of such a sample.
        mean: that of a sample, over all datasets by their shares and over all of the run.
    """

    def __init__(
        self, mixture: Mixture, flops: Mapping[str, float], steps: int, objective: ObjectiveConfig
    ) -> None:
        costs = np.array([flops[dataset.layout.dataset] for dataset in mixture.datasets])

        def passes(dataset: Dataset, look: int) -> int:
            return objective.passes(dataset.sampling.kind, dataset.sampling.steps_at(look))

        looks = range(0, steps, max(1, steps // _LOOKS))
        means = [np.mean([passes(dataset, look) for look in looks]) for dataset in mixture.datasets]
        longest = [passes(dataset, steps - 1) for dataset in mixture.datasets]
        values = [_values(dataset.layout) for dataset in mixture.datasets]
        # Where nothing is counted, as in a network without products, the number of values decides.
        self.worst = max(range(len(costs)), key=lambda n: (longest[n] * costs[n], longest[n] * values[n]))
        self.calls = mixture.datasets[self.worst].sampling.steps_at(steps - 1)
        self.most = float(longest[self.worst] * costs[self.worst])
        self.mean = float(np.average(means * costs, weights=mixture.shares))


def _values(layout: Layout) -> int:
    return (len(layout.inputs) + len(layout.outputs)) * prod(layout.grid.shape)


@dataclass(frozen=True)
class Rehearsal:
    """What the steps took.

    Attributes:
        dataset: of the worst case.
        calls: forecast steps of its samples.
        seconds: of the second step.
        typical: seconds of the whole run, estimated by the arithmetic of the datasets and the curriculum.
        most: likewise, were every step the worst.
        memory: bytes that this process has had at most on the host.
        allocated: bytes of tensors on its GPU at most, 0 without one.
        reserved: bytes that torch held there at most.
        checkpoint: bytes of one on disk.
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


def rehearse(config: TrainingStage, load: Load, processes: int) -> Rehearsal:
    """Take the steps that one of so many processes would; all processes of a launcher call it.

    Args:
        config: of the run, of which nothing is touched.
        load: of the run.
        processes: that the run will have.

    Raises:
        ConfigError: the GPU's memory is too small.
        DataError: the loss is no number.
    """
    with TemporaryDirectory(prefix="pelagos-check-") as name:
        folder = Path(name)
        short = _shortened(config, folder, processes)
        digest = prepare(short)
        model, mixture = short.assemble()
        clock = _Clock()
        try:
            with closing(mixture):
                _steps(short, model, mixture, load, clock, digest)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"loop.micro_batch: {short.loop.micro_batch} samples with {load.calls} forecast step(s) need more"
                f" than the GPU's memory; take fewer, or network.checkpointing where there is one: {error}"
            ) from error
        written = checkpoint.path_of(folder / "checkpoints", STEPS)
        size = sum(file.stat().st_size for file in written.glob("*"))
    seconds = clock.times[1] - clock.times[0]
    gpu = distributed.has_gpu()
    return Rehearsal(
        dataset=mixture.datasets[load.worst],
        calls=load.calls,
        seconds=seconds,
        typical=seconds * config.loop.steps * (load.mean / load.most if load.most else 1.0),
        most=seconds * config.loop.steps,
        memory=peak_memory(),
        allocated=torch.cuda.max_memory_allocated() if gpu else 0,
        reserved=torch.cuda.max_memory_reserved() if gpu else 0,
        checkpoint=size,
    )


def _shortened(config: TrainingStage, folder: Path, processes: int) -> TrainingStage:
    loop, world = config.loop, distributed.world()
    changes = {
        "steps": STEPS,
        "batch_size": loop.micro_batch * loop.accumulation(processes) * world,
        "validate_every": 0,
        "checkpoint_every": 0,
        "log_every": 1,
        "ledger": False,
    }
    return config.model_copy(update={"output": folder, "loop": loop.model_copy(update=changes)})


def _steps(
    config: TrainingStage, model: Model, mixture: Mixture, load: Load, clock: "_Clock", digest: str
) -> None:
    trainer = trainer_of(config, model, mixture, Meter({}, config.objective, peak=1.0), clock)
    if config.loop.patience or config.loop.kept == "best":
        trainer.best.weights = trainer.average.state()  # as after a first validation
    trainer.run(_Worst(mixture, load), {}, digest, "check")


class _Clock(Tracker):
    """Notes when each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker.metrics."""
        self.times.append(time.perf_counter())


class _Worst:
    """An order of one micro-batch of the worst case, again and again."""

    def __init__(self, mixture: Mixture, load: Load) -> None:
        self.datasets, self.micro_batch = mixture.datasets, mixture.micro_batch
        samples = np.arange(self.micro_batch) % self.datasets[load.worst].num_samples
        lease = self.datasets[load.worst].lease(samples)
        self._block = Block(load.worst, samples, load.calls, lease)
        self._blocks_per_step = mixture.blocks_per_step

    def blocks(self, rank: int, world: int, start_step: int, num_steps: int | None) -> Iterator[Block]:
        """See Order."""
        assert num_steps is not None
        return repeat(self._block, num_steps * self._blocks_per_step // world)
