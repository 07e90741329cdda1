"""Derived arrays read as the NumPy arrays that they stand for, whatever the index."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, take_block
from pelagos.preprocessing.sources.arrays.derived_arrays import (
    MemoryArray,
    ResizedAxis,
    WithInitialValues,
    WithTrailingAxis,
    resized_in_time,
)

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(2, 4, 3))
STORED = MemoryArray(VALUES, "stored")
Choice = int | slice | NDArray[np.int64]
CHOICES: tuple[Choice, ...] = (0, 1, slice(None), slice(1, None, 2), slice(1, 1), np.array([0, 1]))


def within(choice: Choice, length: int) -> Choice:
    """The choice, or what of it lies on an axis of this length."""
    if isinstance(choice, int):
        return min(choice, length - 1)
    return choice[choice < length] if isinstance(choice, np.ndarray) else choice


def assert_reads_as(reader: ArrayReader, expected: NDArray[np.float64]) -> None:
    """Every block of the reader is that of the array, with at most one array of positions in an index."""
    assert (reader.shape, reader.dtype) == (expected.shape, expected.dtype)
    for index in product(CHOICES, repeat=expected.ndim):
        if sum(isinstance(one, np.ndarray) for one in index) <= 1:
            wanted = tuple(within(one, n) for one, n in zip(index, expected.shape, strict=True))
            np.testing.assert_array_equal(reader.read(wanted), take_block(expected, wanted))


def test_an_array_in_memory_is_itself() -> None:
    assert_reads_as(STORED, VALUES)
    assert STORED.name == "stored"


@pytest.mark.parametrize("length", [1, 3, 4])
def test_a_longer_axis_is_cut(length: int) -> None:
    assert_reads_as(ResizedAxis(STORED, 1, length), VALUES[:, :length])


def test_a_shorter_axis_is_filled_up_with_nan() -> None:
    expected = np.full((2, 6, 3), np.nan)
    expected[:, :4] = VALUES
    assert_reads_as(ResizedAxis(STORED, 1, 6), expected)


def test_only_an_axis_of_the_frames_of_the_file_is_resized() -> None:
    axes = ("trajectory", "time", "x")
    assert resized_in_time(STORED, axes, 4, 6).shape == (2, 6, 3)
    assert resized_in_time(STORED, axes, 4, 4) is STORED
    assert resized_in_time(STORED, axes, 5, 6) is STORED
    assert resized_in_time(STORED, ("trajectory", "y", "x"), 4, 6) is STORED


def test_initial_values_are_the_first_frame() -> None:
    initial = RNG.normal(size=(2, 4))
    made = WithInitialValues(STORED, MemoryArray(initial, "initial"))
    assert_reads_as(made, np.concatenate([initial[..., None], VALUES], axis=-1))


def test_a_trailing_axis_has_length_one() -> None:
    assert_reads_as(WithTrailingAxis(STORED), VALUES[..., None])
