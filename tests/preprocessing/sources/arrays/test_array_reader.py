"""Array readers: blocks of an array in memory, slices for positions, and integers as floating-point numbers."""

import pickle  # noqa: TID251  # how readers get to other processes
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.array_reader import Index, as_floating, as_slice, take_block
from pelagos.preprocessing.sources.arrays.derived_arrays import MemoryArray

VALUES = np.arange(3 * 4 * 5).reshape(3, 4, 5)
CHOICES: tuple[int | slice | NDArray[np.int64], ...] = (1, slice(1, None), slice(0, 0), np.array([0, 2]))


@pytest.mark.parametrize("index", list(product(CHOICES, repeat=3)), ids=str)
def test_a_block_keeps_the_order_of_its_axes(index: Index) -> None:
    if sum(isinstance(one, np.ndarray) for one in index) > 1:
        index = tuple(slice(0, 3, 2) if isinstance(one, np.ndarray) else one for one in index)
    kept = [np.atleast_1d(np.arange(n)[one]) for n, one in zip(VALUES.shape, index, strict=True)]
    shape = [len(one) for one, choice in zip(kept, index, strict=True) if not isinstance(choice, int)]
    np.testing.assert_array_equal(take_block(VALUES, index), VALUES[np.ix_(*kept)].reshape(shape))


@pytest.mark.parametrize("positions", [[], [4], [2, 3, 4], [1, 4, 7], [1, 2, 4]])
def test_a_slice_selects_the_same_positions(positions: list[int]) -> None:
    wanted = np.array(positions, np.int64)
    found = as_slice(wanted)
    assert isinstance(found, slice) == (positions != [1, 2, 4])
    np.testing.assert_array_equal(np.arange(10)[found], wanted)


def test_integers_and_booleans_become_floating() -> None:
    reader = as_floating(MemoryArray(np.array([True, False]), "a"))
    assert reader.dtype == np.float32
    np.testing.assert_array_equal(reader.read((slice(None),)), np.array([1, 0], np.float32))
    single = MemoryArray(np.zeros(2, np.float64), "b")
    assert as_floating(single) is single
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.read((slice(None),)), [1, 0])
