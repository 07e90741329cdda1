"""Reservoir: which simulated trajectories are at hand when, and which samples are drawn from them.

All of it is a pure function of a key and the position in training, so that nothing about it needs to be saved.
"""

from functools import lru_cache

import numpy as np

from pelagos.preprocessing.array_types import Ints
from pelagos.preprocessing.samples.permutation import Permutation


class Reservoir:
    """Places for trajectories 0, 1, ..., of which the first fill it and each later one replaces another.

    Generation g begins after g replacements and lasts for `uses` draws. The trajectory that leaves at its end
    is drawn last of all in it, so that none leaves unused; the other draws are uniform over the places. Places
    are replaced in rounds, each in a random order of all: a trajectory stays for `size` generations on average
    and is gone after twice as many.
    """

    def __init__(self, size: int, uses: int, draws: int, key: tuple[int, ...]) -> None:
        """An empty reservoir.

        Args:
            size: its places.
            uses: draws of a generation, and of each trajectory on average.
            draws: that are made together, in a turn.
            key: decides all that is random.
        """
        self.size, self._uses, self._draws, self._key = size, uses, draws, key
        self._order = lru_cache(maxsize=4)(self._draw_order)

    def generation(self, turn: int) -> int:
        """At the beginning of a turn."""
        return turn * self._draws // self._uses

    def held(self, generation: int) -> Ints:
        """(size,) which trajectory is at each place."""
        turn, done = divmod(generation, self.size)
        held = turn * self.size + np.argsort(self._order(turn - 1))
        held[self._order(turn)[:done]] = (turn + 1) * self.size + np.arange(done)
        return held

    def draw(self, turn: int) -> tuple[Ints, Ints]:
        """(draws,) the trajectories that are drawn in a turn, and a random number to choose a part of each by."""
        words = np.random.SeedSequence((*self._key, 1, turn)).generate_state(2 * self._draws, np.uint64)
        places, choices = np.asarray(words >> np.uint64(1), np.int64).reshape(2, -1)
        generations, within = np.divmod(turn * self._draws + np.arange(self._draws), self._uses)
        drawn = np.empty_like(places)
        for generation in np.unique(generations).tolist():
            rows, held = generations == generation, self.held(generation)
            drawn[rows] = held[places[rows] % self.size]
            drawn[rows & (within == self._uses - 1)] = held[self._leaving(generation)]
        return drawn, choices

    def _leaving(self, generation: int) -> int:
        """The place that is replaced at the end of a generation."""
        turn, done = divmod(generation, self.size)
        return int(self._order(turn)[done])

    def _draw_order(self, turn: int) -> Ints:
        """In which order places are replaced in a round; the round before the first filled them one by one."""
        places = np.arange(self.size)
        return Permutation(self.size, (*self._key, 0, turn))(places) if turn >= 0 else places


class Lanes:
    """The reservoir of a dataset, dealt to the micro-batches of an optimiser step.

    Micro-batch number n belongs to lane n modulo the micro-batches of a step, and so do its trajectories: a
    process needs those of its own lanes alone, and no two processes need the same one.
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
        parts: int,
        key: tuple[int, ...],
    ) -> None:
        """Deal the places.

        Args:
            size: places of all lanes.
            uses: draws of each trajectory on average.
            micro_batch: draws of a turn.
            lanes: how many.
            ahead: trajectories that a process prepares before they are needed, over its lanes.
            first: number of the first trajectory.
            parts: samples of a trajectory.
            key: decides all that is random.
        """
        self._ahead, self._first, self._parts = ahead, first, parts
        sizes = [size // lanes + (lane < size % lanes) for lane in range(lanes)]
        self._lanes = [Reservoir(n, uses, micro_batch, (*key, lane)) for lane, n in enumerate(sizes)]

    def samples(self, lane: int, turn: int) -> Ints:
        """(micro_batch,) the samples of a lane's turn: trajectory times `parts`, plus the part of it."""
        drawn, choices = self._lanes[lane].draw(turn)
        return self._numbers(lane, drawn) * self._parts + choices % self._parts

    def generation(self, lane: int, turn: int) -> int:
        """See Reservoir."""
        return self._lanes[lane].generation(turn)

    def wanted(self, lane: int, generation: int, num_lanes: int) -> tuple[Ints, Ints]:
        """The trajectories of a lane in a generation, and the next to come into it.

        Args:
            lane: of the process that asks.
            generation: of the lane.
            num_lanes: that the process has.
        """
        reservoir, ahead = self._lanes[lane], -(-self._ahead // num_lanes)
        coming = reservoir.size + generation + np.arange(ahead)
        return self._numbers(lane, reservoir.held(generation)), self._numbers(lane, coming)

    def _numbers(self, lane: int, trajectories: Ints) -> Ints:
        return self._first + trajectories * len(self._lanes) + lane
