"""Lanes: when each simulated trajectory is at hand during training, and which samples are drawn from it.

The trajectories at hand are the reservoir; each micro-batch of an optimiser step has its own lane of it. Everything is
a pure function of a key and the position in training, so there is no state to save.
"""

from functools import lru_cache

import numpy as np

from pelagos.preprocessing.array_types import Ints
from pelagos.preprocessing.samples.permutation import Permutation


class Lane:
    """Some places of the reservoir: trajectories 0, 1, ... fill them, then each new one replaces another.

    One trajectory is replaced after every `uses` draws. Draws are uniform over the places, but the last one before
    a replacement takes the trajectory that leaves, so none leaves unused. Places are replaced in rounds, each in a
    random order of all: a trajectory stays for `size` replacements on average and for fewer than twice as many.
    """

    def __init__(self, size: int, uses: int, draws: int, key: tuple[int, ...]) -> None:
        """Prepare the order; nothing is drawn yet.

        Args:
            size: number of places.
            uses: draws between two replacements, and of each trajectory on average.
            draws: number of draws made together, in one turn: a micro-batch.
            key: seeds everything random.
        """
        self.size, self._uses, self._draws, self._key = size, uses, draws, key
        self._order = lru_cache(maxsize=4)(self._draw_order)

    def num_replaced(self, turn: int) -> int:
        """How many trajectories have been replaced when a turn begins."""
        return turn * self._draws // self._uses

    def held(self, replaced: int) -> Ints:
        """(size,) which trajectory is at each place after so many replacements."""
        cycle, done = divmod(replaced, self.size)
        # The round before filled the places in its own order; this one has overwritten the first `done` of its order.
        held = cycle * self.size + np.argsort(self._order(cycle - 1))
        held[self._order(cycle)[:done]] = (cycle + 1) * self.size + np.arange(done)
        return held

    def draw(self, turn: int) -> tuple[Ints, Ints]:
        """(draws,) the trajectories of a turn, and (draws,) random numbers that choose a part of each."""
        words = np.random.SeedSequence((*self._key, 1, turn)).generate_state(2 * self._draws, np.uint64)
        # 63 bits are never negative.
        places, choices = np.asarray(words >> np.uint64(1), np.int64).reshape(2, -1)
        # A turn may span several replacements.
        replacements, within = np.divmod(turn * self._draws + np.arange(self._draws), self._uses)
        drawn = np.empty_like(places)
        for replaced in np.unique(replacements).tolist():
            rows, held = replacements == replaced, self.held(replaced)
            drawn[rows] = held[places[rows] % self.size]
            # So every trajectory counts, without a record of what was seen.
            drawn[rows & (within == self._uses - 1)] = held[self._leaving(replaced)]
        return drawn, choices

    def _leaving(self, replaced: int) -> int:
        """The place that is replaced next, after so many replacements."""
        cycle, done = divmod(replaced, self.size)
        return int(self._order(cycle)[done])

    def _draw_order(self, cycle: int) -> Ints:
        """The order in which a round replaces the places; round -1 filled them one by one."""
        places = np.arange(self.size)
        return Permutation(self.size, (*self._key, 0, cycle))(places) if cycle >= 0 else places


class Lanes:
    """The reservoir of a dataset, divided among the micro-batches of an optimiser step.

    Micro-batch n belongs to lane n modulo the number of micro-batches in a step, and draws only from that lane's
    trajectories. So a process needs only the trajectories of its own lanes, and no two processes need the same one.
    """

    def __init__(
        self,
        size: int,
        uses: int,
        micro_batch: int,
        *,
        lanes: int,
        ahead: int,
        first: int,
        samples_each: int,
        key: tuple[int, ...],
    ) -> None:
        """Divide the places among the lanes.

        Args:
            size: places of all lanes together.
            uses: draws of each trajectory on average.
            micro_batch: draws of one turn.
            lanes: number of lanes.
            ahead: trajectories that a process prepares before they are needed, over all its lanes.
            first: number of the first trajectory; those before it are held out.
            samples_each: samples in a trajectory.
            key: seeds everything random.
        """
        self._ahead, self._first, self._samples_each = ahead, first, samples_each
        sizes = [size // lanes + (lane < size % lanes) for lane in range(lanes)]
        self._lanes = [Lane(n, uses, micro_batch, (*key, lane)) for lane, n in enumerate(sizes)]

    def samples(self, lane: int, turn: int) -> Ints:
        """(micro_batch,) the samples of a lane's turn: trajectory times `samples_each`, plus its place in it."""
        drawn, choices = self._lanes[lane].draw(turn)
        return self._numbers(lane, drawn) * self._samples_each + choices % self._samples_each

    def num_replaced(self, lane: int, turn: int) -> int:
        """How many trajectories of a lane have been replaced when a turn begins."""
        return self._lanes[lane].num_replaced(turn)

    def wanted(self, lane: int, replaced: int, num_lanes: int) -> tuple[Ints, Ints]:
        """The trajectories that a lane holds after so many replacements, and the next ones to enter it.

        Args:
            lane: which lane.
            replaced: number of replacements so far.
            num_lanes: number of lanes of the process, which share what it prepares ahead.
        """
        mine, ahead = self._lanes[lane], -(-self._ahead // num_lanes)
        coming = mine.size + replaced + np.arange(ahead)
        return self._numbers(lane, mine.held(replaced)), self._numbers(lane, coming)

    def _numbers(self, lane: int, trajectories: Ints) -> Ints:
        """A lane's own numbering in that of the simulation, in which lanes alternate."""
        return self._first + trajectories * len(self._lanes) + lane
