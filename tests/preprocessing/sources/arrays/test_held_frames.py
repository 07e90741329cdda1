"""A field on a longer axis of times is itself where it has frames, and missing elsewhere."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.sources.arrays.derived_arrays import MemoryArray
from pelagos.preprocessing.sources.arrays.held_frames import ABSENT, on_longer_axis
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable
from pelagos.preprocessing.sources.convention import TIME_DIMS

VALUES = np.random.default_rng(0).normal(size=(4, 2, 3))
POSITIONS = np.array([ABSENT, 0, 1, ABSENT, 2, 3])
WHOLE = np.full((1, 6, 2, 3), np.nan)
WHOLE[0, POSITIONS != ABSENT] = VALUES


@pytest.fixture
def field() -> xr.Variable:
    sizes = {"trajectory": 1, "time": 4, "y": 2, "x": 3}
    own = lazy_variable(
        TIME_DIMS, [MemoryArray(VALUES, "t")], ("time", "y", "x"), sizes, {"units": "K"}, "time"
    )
    return on_longer_axis(own, POSITIONS)


def test_frames_lie_at_their_times(field: xr.Variable) -> None:
    np.testing.assert_array_equal(field.values, WHOLE)
    assert field.attrs == {"units": "K"}


@pytest.mark.parametrize(
    "key",
    [
        {"time": 0},
        {"time": 4, "y": 1},
        {"time": slice(1, None, 2), "trajectory": 0},
        {"time": [5, 0, 1], "x": slice(0, 2)},
        {"time": slice(0, 0)},
        {"time": [0, 3]},
        {"trajectory": 0, "time": 1, "y": 0, "x": 2},
        {"y": [1, 0]},
    ],
)
def test_a_part_is_that_part_of_the_whole(field: xr.Variable, key: dict[str, Any]) -> None:
    np.testing.assert_array_equal(field.isel(key).values, xr.Variable(TIME_DIMS, WHOLE).isel(key).values)


def test_only_frames_that_are_asked_for_are_read(field: xr.Variable, elements_read: list[int]) -> None:
    field.isel(time=slice(0, 2)).load()
    assert elements_read == [6]
