"""Permutation: a random order of n things that is computed where it is needed, never stored."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
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
        self._mask = np.uint64((1 << bits) - 1)
        self._shift = np.uint64((bits + 1) // 2)
        words = np.random.SeedSequence(key).generate_state(2 * _ROUNDS, np.uint64)
        self._factors = words[:_ROUNDS] | np.uint64(1)
        self._terms = words[_ROUNDS:]

    def __call__(self, positions: Ints) -> Ints:
        """What stands at these positions."""
        values = self._turn(positions.astype(np.uint64))
        while (beyond := values >= self.num).any():
            values[beyond] = self._turn(values[beyond])
        return values.astype(np.int64)

    def _turn(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        for factor, term in zip(self._factors, self._terms, strict=True):
            values = (values * factor + term) & self._mask
            values ^= values >> self._shift
        return values
