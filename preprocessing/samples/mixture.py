"""Mixture: in which order the samples of several datasets are drawn, the same for any number of ranks.

Samples come in blocks of `micro_batch`, each of one dataset. An epoch of the mixture is a random
order of as many blocks of each dataset as its share asks for. Dataset d's n_d samples follow each
other in rounds, each a random order of all n_d, and its blocks cut this stream: every block is full,
and each round holds every sample exactly once. Of a simulation the samples are drawn from its reservoir instead
(see lanes.py).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, product
from typing import Literal, Protocol

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pelagos.preprocessing.array_types import Ints
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.permutation import GroupedPermutation, Permutation

_GROUP = 64  # blocks that are drawn together
_STRETCH = 1 << 16  # blocks whose datasets are counted together


@dataclass(frozen=True, eq=False)
class Block:
    """The samples of one batch.

    Attributes:
        dataset: position of their dataset in the mixture.
        samples: (B,) numbers in that dataset.
        steps: forecast steps of each sample.
        request: keeps the samples at hand for as long as the block exists.
        key: decides how samples are transformed; none of validation and evaluation, which stay as they are.
    """

    dataset: int
    samples: Ints
    steps: int = 1
    request: object = None
    key: tuple[int, ...] | None = None


class Order(Protocol):
    """Decides which blocks a rank reads, and of which datasets."""

    datasets: tuple[Dataset, ...]
    micro_batch: int

    def blocks(self, rank: int, world: int, start_step: int, num_steps: int | None) -> Iterator[Block]:
        """The blocks of one rank for some steps, in order."""
        ...


class TrainingOrder(Order, Protocol):
    """An order of which each step has as many blocks, numbered since the beginning of training."""

    def numbers(self, step: int, rank: int, world: int) -> list[int]:
        """The numbers of one rank's blocks of a step, in order."""
        ...


class MixtureConfig(Config):
    """Datasets that are trained on together.

    Attributes:
        datasets: what is mixed.
        batch_size: samples of one optimiser step, over all ranks.
        micro_batch: samples that go through the network at a time, all of one dataset.
        temperature: shares go with (number of samples)^(1 / temperature): 1 draws all samples equally often, large
            values all datasets.
        normalization: whether each dataset has its own scales or all share one for each variable.
        seed: seeds the order.
    """

    datasets: tuple[DatasetConfig, ...] = Field(min_length=1)
    batch_size: PositiveInt
    micro_batch: PositiveInt
    temperature: PositiveFloat = 1.0
    normalization: Literal["dataset", "pooled"] = "dataset"
    seed: NonNegativeInt = 0

    def build(self, normalizer: Normalizer | None = None) -> "Mixture":
        """Open all stores; a given normaliser (of a checkpoint) replaces the statistics.

        Raises:
            ConfigError: sizes that do not divide, or units that do not agree.
        """
        stores = [dataset.store() for dataset in self.datasets]
        if normalizer is None and self.normalization == "pooled":
            # Loaded where it is asked for: most mixtures have the scales of their stores.
            from pelagos.preprocessing.samples.pooled_scales import pooled_normalizer

            normalizer = pooled_normalizer(stores)
        return Mixture(
            [
                dataset.samples(store, normalizer or Normalizer.of(store))
                for dataset, store in zip(self.datasets, stores, strict=True)
            ],
            weights=[dataset.weight for dataset in self.datasets],
            batch_size=self.batch_size,
            micro_batch=self.micro_batch,
            temperature=self.temperature,
            seed=self.seed,
        )


class Mixture:
    """The order of training: a pure function of the seed and the position.

    Attributes:
        datasets: what is mixed.
        micro_batch: samples in a block.
        blocks_per_step: blocks in a global batch.
        shares: (D,) samples of each dataset in one epoch.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        *,
        batch_size: int,
        micro_batch: int,
        weights: Sequence[float] = (),
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        if batch_size % micro_batch:
            raise ConfigError(f"batch_size: {batch_size} is no multiple of micro_batch, {micro_batch}")
        self.datasets, self.micro_batch = tuple(datasets), micro_batch
        self.blocks_per_step = batch_size // micro_batch
        sizes = np.array([dataset.num_samples for dataset in self.datasets], np.int64)
        self.shares = _shares(sizes, weights or [1.0] * len(sizes), temperature)
        self._seed = seed
        self._group = lru_cache(maxsize=4)(self._draw_group)
        self._pooled = np.array([dataset.config.pool > 0 for dataset in self.datasets])
        self._turns = lru_cache(maxsize=4)(self._draw_turns)
        self._counts: dict[int, list[Ints]] = {}
        self._round_order = lru_cache(maxsize=2 * len(self.datasets))(self._draw_round)
        dealt = [
            dataset.lanes(self.blocks_per_step, micro_batch, (seed, 3, position))
            for position, dataset in enumerate(self.datasets)
        ]
        self._lanes = {position: lanes for position, lanes in enumerate(dealt) if lanes is not None}
        self._lane_turns = lru_cache(maxsize=2 * len(self.datasets))(self._count_lane_turns)
        self._lane_counts = {position: [np.zeros(self.blocks_per_step, np.int64)] for position in self._lanes}

    def close(self) -> None:
        """Close the datasets."""
        for dataset in self.datasets:
            dataset.close()

    @property
    def steps_per_epoch(self) -> float:
        """Global batches in which as many samples are drawn as one epoch has."""
        return float(self.shares.sum()) / (self.micro_batch * self.blocks_per_step)

    def block(self, number: int) -> Block:
        """Block `number` since the beginning of training."""
        group, place = divmod(number, _GROUP)
        datasets, samples = self._group(group)
        dataset = int(datasets[place])
        steps = self.datasets[dataset].sampling.steps_at(number // self.blocks_per_step)
        return Block(dataset, samples[place], steps, key=(self._seed, 4, number))

    def numbers(self, step: int, rank: int, world: int) -> list[int]:
        """The numbers of one rank's blocks of a step, in order.

        They are dealt round robin where all cost the same, and else so that ranks have about the same to do. Either way
        a step has the same blocks on any number of ranks.
        """
        first, last = step * self.blocks_per_step, (step + 1) * self.blocks_per_step
        # A simulation's trajectories are with the rank whose lane they are in.
        if world > 1 and not self._lanes:
            costs = self._costs_of(step)
            if min(costs) < max(costs):
                # Loaded where it is asked for: datasets of most mixtures cost the same.
                from pelagos.preprocessing.samples.dealing import dealt_by_cost

                return [first + position for position in dealt_by_cost(costs, world)[rank]]
        return list(range(first + rank, last, world))

    def _costs_of(self, step: int) -> list[float]:
        """What the network has to compute for each block of a step: points and forecast steps."""
        numbers = np.arange(step * self.blocks_per_step, (step + 1) * self.blocks_per_step)
        epochs = range(self._epoch_of(int(numbers[0])), self._epoch_of(int(numbers[-1])) + 1)
        datasets = np.concatenate([self._draw(numbers, epoch)[0] for epoch in epochs])
        costs = [
            float(np.prod(dataset.layout.grid.shape)) * dataset.sampling.steps_at(step)
            for dataset in self.datasets
        ]
        return [costs[dataset] for dataset in datasets]

    def blocks(self, rank: int, world: int, start_step: int, num_steps: int | None) -> Iterator[Block]:
        """The blocks of one rank, see `numbers`; without end where `num_steps` is None.

        Raises:
            ConfigError: the blocks of a global batch cannot be dealt evenly.
        """
        if self.blocks_per_step % world:
            raise ConfigError(
                f"batch_size: a global batch of {self.blocks_per_step} blocks of {self.micro_batch} samples "
                f"cannot be dealt to {world} ranks evenly"
            )
        steps = count(start_step) if num_steps is None else range(start_step, start_step + num_steps)
        return self._dealt(rank, world, steps)

    def _dealt(self, rank: int, world: int, steps: Iterable[int]) -> Iterator[Block]:
        lanes = range(rank, self.blocks_per_step, world)
        followed: dict[tuple[int, int], int] = {}
        for step in steps:
            # Lanes first: producers hear of all trajectories of a step before one of them is waited for.
            first = step * self.blocks_per_step
            for position, lane in product(self._lanes, lanes):
                # Only a replacement changes what a lane holds, and many micro-batches may pass without one.
                replaced = self._lanes[position].num_replaced(lane, self._turn(position, first + lane))
                if followed.get((position, lane)) != replaced:
                    held, coming = self._lanes[position].wanted(lane, replaced, len(lanes))
                    self.datasets[position].follow(lane, held, coming)
                    followed[position, lane] = replaced
            for number in self.numbers(step, rank, world):
                block = self.block(number)
                yield replace(block, request=self.datasets[block.dataset].request(block.samples))

    def _turn(self, dataset: int, number: int) -> int:
        """How many blocks of a lane before this one are of a dataset."""
        epoch = self._epoch_of(number)
        return int(self._lane_turns(dataset, epoch)[number - self._first_blocks(epoch).sum()])

    def _count_lane_turns(self, dataset: int, epoch: int) -> Ints:
        """For each block of an epoch, how many of those before it in its lane are of a dataset."""
        counts = self._lane_counts[dataset]
        while len(counts) <= epoch:
            earlier = self._lane_flags(dataset, len(counts) - 1)
            counts.append(counts[-1] + earlier.sum(axis=0))
        flags = self._lane_flags(dataset, epoch)
        turns = counts[epoch] + np.cumsum(flags, axis=0) - flags
        begin = int(self._first_blocks(epoch).sum()) % self.blocks_per_step
        return np.asarray(turns.reshape(-1)[begin:], np.int64)

    def _lane_flags(self, dataset: int, epoch: int) -> Ints:
        """(S, L) which blocks of the steps that an epoch touches belong to it and to a dataset."""
        first, last = (int(self._first_blocks(e).sum()) for e in (epoch, epoch + 1))
        begin = first % self.blocks_per_step
        flags = np.zeros(-(-(begin + last - first) // self.blocks_per_step) * self.blocks_per_step, np.int64)
        flags[begin : begin + last - first] = self._datasets_of(epoch) == dataset
        return flags.reshape(-1, self.blocks_per_step)

    def _first_blocks(self, epoch: int) -> Ints:
        """(D,) how many blocks of each dataset were drawn before an epoch."""
        return epoch * self.shares // self.micro_batch

    def _epoch_of(self, number: int) -> int:
        epoch = number * self.micro_batch // int(self.shares.sum())
        # Blocks that straddle two epochs belong to the later one, so the estimate may be early.
        while self._first_blocks(epoch + 1).sum() <= number:
            epoch += 1
        return epoch

    def _draw_group(self, group: int) -> tuple[Ints, Ints]:
        """(G,) datasets and (G, micro_batch) samples of consecutive blocks: cheaper together."""
        numbers = np.arange(group * _GROUP, (group + 1) * _GROUP)
        epochs = np.array([self._epoch_of(number) for number in (numbers[0], numbers[-1])])
        drawn = [self._draw(numbers, epoch) for epoch in range(epochs[0], epochs[1] + 1)]
        datasets, places = (np.concatenate(arrays) for arrays in zip(*drawn, strict=True))
        samples = np.empty((_GROUP, self.micro_batch), np.int64)
        for dataset in np.unique(datasets):
            rows = datasets == dataset
            if dataset in self._lanes:
                samples[rows] = [self._online_samples(int(dataset), int(n)) for n in numbers[rows]]
                continue
            positions = places[rows, None] * self.micro_batch + np.arange(self.micro_batch)
            samples[rows] = self._samples(int(dataset), positions)
        return datasets, samples

    def _draw(self, numbers: Ints, epoch: int) -> tuple[Ints, Ints]:
        """For those of the blocks that lie in an epoch: their dataset, and their number among its blocks."""
        starts = self._first_blocks(epoch)
        counts = self._first_blocks(epoch + 1) - starts
        ends = np.cumsum(counts)
        within = numbers - starts.sum()
        within = within[(within >= 0) & (within < ends[-1])]
        drawn = self._epoch_order(epoch, int(ends[-1]))(within)
        datasets = np.searchsorted(ends, drawn, side="right")
        places = drawn - (ends - counts)[datasets]
        if self._pooled.any():
            # A pool holds one group of trajectories after the other, so its blocks keep their order.
            rows = self._pooled[datasets]
            places[rows] = self._turns_of(epoch, within[rows])
        return datasets, starts[datasets] + places

    def _turns_of(self, epoch: int, blocks: Ints) -> Ints:
        """For some blocks of an epoch, how many of those before each are of the same dataset."""
        if len(self.datasets) == 1:
            return blocks
        turns = np.empty_like(blocks)
        for stretch in np.unique(blocks // _STRETCH).tolist():
            rows = blocks // _STRETCH == stretch
            turns[rows] = self._turns(epoch, stretch)[blocks[rows] - stretch * _STRETCH]
        return turns

    def _draw_turns(self, epoch: int, stretch: int) -> Ints:
        """The same for one stretch of blocks."""
        counts = self._counts.setdefault(epoch, [np.zeros(len(self.datasets), np.int64)])
        # Counted as far as training has come: of a whole epoch of 1e9 samples this would take half a minute and 5 GB.
        while len(counts) <= stretch:
            earlier = self._stretch(epoch, len(counts) - 1)
            counts.append(counts[-1] + np.bincount(earlier, minlength=len(self.datasets)))
        for old in [known for known in self._counts if known < epoch - 1]:
            del self._counts[old]
        datasets = self._stretch(epoch, stretch)
        turns = np.empty_like(datasets)
        for dataset in np.unique(datasets):
            rows = datasets == dataset
            turns[rows] = counts[stretch][dataset] + np.arange(rows.sum())
        return turns

    def _stretch(self, epoch: int, stretch: int) -> Ints:
        """The datasets of a stretch of blocks."""
        ends = np.cumsum(self._first_blocks(epoch + 1) - self._first_blocks(epoch))
        blocks = np.arange(stretch * _STRETCH, min((stretch + 1) * _STRETCH, int(ends[-1])))
        return np.searchsorted(ends, self._epoch_order(epoch, int(ends[-1]))(blocks), side="right")

    def _datasets_of(self, epoch: int) -> Ints:
        """Of all blocks of an epoch."""
        ends = np.cumsum(self._first_blocks(epoch + 1) - self._first_blocks(epoch))
        drawn = self._epoch_order(epoch, int(ends[-1]))(np.arange(ends[-1]))
        return np.searchsorted(ends, drawn, side="right")

    def _online_samples(self, dataset: int, number: int) -> Ints:
        lane = number % self.blocks_per_step
        return self._lanes[dataset].samples(lane, self._turn(dataset, number))

    def _samples(self, dataset: int, positions: Ints) -> Ints:
        """The samples at positions of a dataset's endless stream of rounds."""
        num_samples = self.datasets[dataset].num_samples
        turns, within = np.divmod(positions, num_samples)
        samples = np.empty_like(positions)
        for turn in np.unique(turns):
            samples[turns == turn] = self._round_order(dataset, int(turn))(within[turns == turn])
        return samples

    # The second number of a key keeps random streams apart: 0 orders blocks, 1 the samples of a round, 3 fills lanes,
    # 4 transforms samples.

    def _epoch_order(self, epoch: int, num_blocks: int) -> Permutation:
        return Permutation(max(1, num_blocks), (self._seed, 0, epoch))

    def _draw_round(self, dataset: int, turn: int) -> Callable[[Ints], Ints]:
        drawn, key = self.datasets[dataset], (self._seed, 1, dataset, turn)
        if drawn.config.pool:
            return GroupedPermutation(drawn.run_ends, drawn.config.pool, key)
        return Permutation(drawn.num_samples, key)


def _shares(sizes: Ints, weights: Sequence[float], temperature: float) -> Ints:
    """(D,) samples of each dataset in an epoch, which has about as many as all datasets together."""
    # Each sample exactly once an epoch, free of rounding.
    if temperature == 1 and len(set(weights)) == 1:
        return sizes
    shares = np.array(weights) * sizes ** (1 / temperature)
    return np.asarray(np.maximum(1, np.rint(shares / shares.sum() * sizes.sum())), np.int64)


class Sweep:
    """Every sample of every dataset once, in order: validation and tests.

    A dataset's last block may be short, and ranks may differ by one block.
    """

    def __init__(self, datasets: Sequence[Dataset], micro_batch: int) -> None:
        self.datasets, self.micro_batch = tuple(datasets), micro_batch

    def blocks(
        self, rank: int, world: int, start_step: int = 0, num_steps: int | None = None
    ) -> Iterator[Block]:
        """The blocks of one rank, dealt round robin; a step is one block of every rank."""
        for number, block in enumerate(self._all_blocks()):
            step, turn = divmod(number, world)
            if turn == rank and step >= start_step and (num_steps is None or step < start_step + num_steps):
                yield block

    def _all_blocks(self) -> Iterator[Block]:
        for number, dataset in enumerate(self.datasets):
            for start in range(0, dataset.num_samples, self.micro_batch):
                stop = min(start + self.micro_batch, dataset.num_samples)
                yield Block(number, np.arange(start, stop), dataset.steps)
