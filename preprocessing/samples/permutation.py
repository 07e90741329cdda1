"""Permutation: a random order of n items, computed item by item and never stored."""

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Ints

_ROUNDS = 4


class Permutation:
    """A bijection of 0, ..., n - 1, a pure function of n and a key.

    Each round multiplies by an odd number, adds, and mixes high bits into low ones, all modulo the
    next power of two, and so is invertible; values beyond n take further turns until they are below
    it (cycle walking: Black and Rogaway 2002), on average less than two.
    """

    def __init__(self, num: int, key: tuple[int, ...]) -> None:
        assert num > 0
        self.num = num
        bits = max(2, (num - 1).bit_length())
        # Unsigned products wrap around, so masking them is arithmetic modulo the power of two.
        self._mask = np.uint64((1 << bits) - 1)
        # Shifted by half the bits or more, x ^ (x >> shift) undoes itself.
        self._shift = np.uint64((bits + 1) // 2)
        words = np.random.SeedSequence(key).generate_state(2 * _ROUNDS, np.uint64)
        self._factors = words[:_ROUNDS] | np.uint64(1)  # odd: invertible
        self._terms = words[_ROUNDS:]

    def __call__(self, positions: Ints) -> Ints:
        """The items at these positions."""
        values = self._turn(positions.astype(np.uint64))
        while (beyond := values >= self.num).any():
            values[beyond] = self._turn(values[beyond])
        return values.astype(np.int64)

    def _turn(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        for factor, term in zip(self._factors, self._terms, strict=True):
            values = (values * factor + term) & self._mask
            values ^= values >> self._shift
        return values


class GroupedPermutation:
    """A bijection of 0, ..., n - 1 that visits runs of neighbours group by group.

    The runs come in a random order, `size` of them make a group, and the items of a group come in a random order
    before any of the next group: a reader that holds `size` runs needs to fetch each of them only once.
    """

    def __init__(self, ends: Ints, size: int, key: tuple[int, ...]) -> None:
        """Draw the groups.

        Args:
            ends: (R,) where each run ends; the last one at n.
            size: number of runs in a group.
            key: seeds the order.
        """
        # Where the runs begin in their random order, then where each group does.
        runs = Permutation(len(ends), (*key, 0))(np.arange(len(ends)))
        lengths = np.diff(ends, prepend=0)
        self._key = (*key, 1)
        self._begins = (ends - lengths)[runs]
        self._places = np.concatenate([[0], np.cumsum(lengths[runs])])
        self._edges = np.append(self._places[:-1:size], self._places[-1])

    def __call__(self, positions: Ints) -> Ints:
        """The items at these positions."""
        places = np.empty_like(positions)
        groups = np.searchsorted(self._edges, positions, side="right") - 1
        for group in np.unique(groups):
            rows, (start, stop) = groups == group, self._edges[group : group + 2]
            within = Permutation(int(stop - start), (*self._key, int(group)))
            places[rows] = start + within(positions[rows] - start)
        runs = np.searchsorted(self._places, places, side="right") - 1
        return np.asarray(self._begins[runs] + places - self._places[runs])
