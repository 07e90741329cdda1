"""The convention: what conforms passes, and each way not to conform is named."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.convention import BoundaryOption
from tests.preprocessing.sources.datasets import dataset


@pytest.fixture
def ds() -> xr.Dataset:
    return dataset(("velocity_x", "velocity_y"), ("wave_speed",), {"viscosity": [1, 2, 3], "drag": 0.5})


def test_a_conforming_dataset_passes(ds: xr.Dataset) -> None:
    convention.check(ds)
    convention.check(ds.assign(wave_speed=ds.wave_speed[0]))
    convention.check(ds.assign_coords(trajectory=["a", "b", "c"]))
    convention.check(ds.assign_coords(time=np.datetime64("2020-01-01", "ns") + np.arange(5)))
    convention.check(ds[["velocity_x"]].expand_dims(level=[500.0], axis=2))
    convention.check(ds.assign(wave_speed=ds.wave_speed.expand_dims(level=[500.0], axis=1)))


Change = Callable[[xr.Dataset], xr.Dataset]


def _role(name: str, role: str | None) -> Change:
    return lambda ds: ds.assign({name: ds[name].assign_attrs(role=role)})


BROKEN: dict[str, Change] = {
    "variable velocity_x has role None; it must be one of scalar, static": _role("velocity_x", None),
    "variable wave_speed of role prognostic has dims ('trajectory', 'y', 'x')": _role(
        "wave_speed", "prognostic"
    ),
    "variable velocity_x of role static has dims ('trajectory', 'time', 'y', 'x')": _role(
        "velocity_x", "static"
    ),
    "('trajectory', 'time', 'x', 'y')": lambda ds: ds.assign(
        velocity_x=ds.velocity_x.transpose(..., "x", "y")
    ),
    "variable drag has no units; '1' stands for none": lambda ds: ds.assign(
        drag=((), 1.0, {"role": "scalar"})
    ),
    "variable velocity_x is int64; it must be floating-point": lambda ds: ds.assign(
        velocity_x=ds.velocity_x.astype("i8")
    ),
    "the dataset's attribute 'boundary_y' is missing": lambda ds: ds.drop_attrs(deep=False),
    "attribute boundary_x is 'periodic'; 'low,high' of": lambda ds: ds.assign_attrs(boundary_x="periodic"),
    "boundary_y is periodic on one side only": lambda ds: ds.assign_attrs(boundary_y="periodic,wall"),
    "attribute grid is 'gaussian'": lambda ds: ds.assign_attrs(grid="gaussian"),
    "variable velocity_x has levels, but no coordinate 'level' says which": lambda ds: ds.assign(
        velocity_x=ds.velocity_x.expand_dims("level", axis=2)
    ),
    "coordinate level is nan at point 0": lambda ds: ds.assign(
        velocity_x=ds.velocity_x.expand_dims(level=[np.nan], axis=2)
    ),
    "no one-dimensional coordinate 'x'": lambda ds: ds.drop_vars("x"),
    "coordinate y is float32": lambda ds: ds.assign_coords(y=ds.y.astype("f4")),
    "axis y must be one-dimensional and strictly monotonic": lambda ds: ds.assign_coords(y=ds.y * 0),
    "time does not increase: frame 0 is at 1.0, frame 1 at 0.75": lambda ds: ds.isel(
        time=slice(None, None, -1)
    ),
    "time is int64; float64 or datetime64": lambda ds: ds.assign_coords(time=np.arange(5)),
    "trajectories are numbered in float64": lambda ds: ds.assign_coords(trajectory=[0.0, 1.0, 2.0]),
    "no variable depends on time": lambda ds: ds.drop_vars(["velocity_x", "velocity_y"]),
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_does_not_conform_is_named(ds: xr.Dataset, message: str) -> None:
    changed = BROKEN[message](ds)
    if "boundary_y' is" in message:
        changed = changed.assign_attrs({k: v for k, v in ds.attrs.items() if k != "boundary_y"})
    with pytest.raises(DataError, match=re.escape(message)):
        convention.check(changed)


def test_axes_without_entries_are_refused(ds: xr.Dataset) -> None:
    for axis in ("trajectory", "time", "y", "x"):
        with pytest.raises(DataError, match=f": {axis} has no entries, so there are no values to read"):
            convention.check(ds.isel({axis: slice(0)}))


def test_the_grid_of_a_dataset_is_the_one_it_was_made_with() -> None:
    ds = dataset(("phase",), boundary_y=("wall", "open"))
    grid = convention.grid_of(ds)
    assert (grid.boundary_y, grid.boundary_x) == (("wall", "open"), ("periodic", "periodic"))
    assert grid.shape == (6, 4)
    assert grid.spacing == (0.125, 0.125)


def test_attributes_come_from_the_table_unless_given() -> None:
    assert convention.attrs("velocity_x", "prognostic") == {
        "units": "1",
        "role": "prognostic",
        "group": "velocity",
        "long_name": "velocity along x",
    }
    assert convention.attrs("air_temperature", "prognostic", units="degC")["units"] == "degC"
    assert convention.attrs("air_temperature", "prognostic", units="")["units"] == "K"


def test_selection_keeps_scalars_and_names_what_is_unknown(ds: xr.Dataset) -> None:
    assert set(convention.select(ds, ["velocity_y"])) == {"velocity_y", "viscosity", "drag"}
    assert set(convention.select(ds, [])) == set(ds)
    with pytest.raises(DataError, match="no pressure; it has velocity_x, velocity_y, wave_speed"):
        convention.select(ds, ["velocity_x", "pressure"])


def test_coordinates_agree_up_to_single_precision() -> None:
    values = np.linspace(-10.75, 2.75, 28)
    one, two = (Path("a"), values), (Path("b"), values.astype("f4").astype("f8"))
    convention.require_equal("x", one, two)
    with pytest.raises(DataError, match=r"a and b differ in x: point 3 is -9\.25 and -9\.24"):
        convention.require_equal("x", one, (Path("b"), values + 0.01 * (np.arange(28) == 3)))
    with pytest.raises(DataError, match="a and b differ in x: 28 and 27 points"):
        convention.require_equal("x", one, (Path("b"), values[1:]))


def test_coordinates_near_nothing_and_those_far_away_are_told_apart() -> None:
    seconds = 1e9 + np.arange(4.0)
    with pytest.raises(DataError, match="differ in time"):
        convention.require_equal("time", ("a", seconds), ("b", seconds + 1))
    with pytest.raises(DataError, match="differ in x: point 1"):
        convention.require_equal("x", ("a", np.array([0.0, 1.0])), ("b", np.array([0.0, np.nan])))


@pytest.mark.parametrize(
    ("option", "y", "x"),
    [
        ("wall", ("wall", "wall"), ("wall", "wall")),
        ({"y": "wall", "x": "periodic"}, ("wall", "wall"), ("periodic", "periodic")),
        ({"y": ["wall", "open"], "x": "open"}, ("wall", "open"), ("open", "open")),
    ],
)
def test_a_boundary_can_be_said_in_a_word_or_side_by_side(option: object, y: object, x: object) -> None:
    made = TypeAdapter(BoundaryOption).validate_python(option)
    assert (made.y, made.x) == (y, x)


def test_an_unknown_boundary_is_an_error_that_lists_the_kinds() -> None:
    with pytest.raises(ValidationError, match="'periodic', 'wall', 'open', 'pole' or 'unknown'"):
        TypeAdapter(BoundaryOption).validate_python("neumann")


@pytest.mark.parametrize(
    ("start", "step"), [(1e4, 0.01), (-1e4, 0.01), (500.0, 0.01), (1e6, 0.3), (0.0, 0.01)]
)
def test_late_times_in_single_precision_are_evenly_spaced(start: float, step: float) -> None:
    for count in (3, 50, 10_000):
        exact = start + step * np.arange(count, dtype=np.float64)
        stored = exact.astype(np.float32)
        found = convention.even_times(stored.astype(np.float64), stored.dtype)
        assert not convention.uneven_frames(found).size
        np.testing.assert_allclose(found, exact, rtol=0, atol=np.spacing(np.abs(stored).max()))
        np.testing.assert_array_equal(convention.even_times(exact, exact.dtype), exact)


LATE = np.array([1e4, 1e4 + 0.01, 1e4 + 0.022, 1e4 + 0.03])
"""One frame is 0.002 late, in single precision two neighbours of 1e4."""


@pytest.mark.parametrize(
    ("times", "dtype"),
    [
        (LATE, np.float32),
        (LATE, np.float64),
        (np.array([0, 1, 2, 4]), np.float32),
        (np.array([0, 1, 2, 4]), np.int64),
        # In double precision nothing has rounded these.
        (np.float32(1e4 + 0.01 * np.arange(50)), np.float64),
        # Neighbours are 0.00098 apart: 0.001 cannot be told from 0.002.
        (1e4 + 0.001 * np.arange(50), np.float32),
    ],
)
def test_times_that_rounding_does_not_explain_stay_uneven(times: NDArray[Any], dtype: type) -> None:
    stored: NDArray[Any] = times.astype(dtype)
    found = convention.even_times(stored.astype(np.float64), stored.dtype)
    np.testing.assert_array_equal(found, stored)
    assert convention.uneven_frames(found).size
