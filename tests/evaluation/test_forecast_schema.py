from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_schema import grid_of, normalised, ordered_fields
from pelagos.preprocessing.errors import DataError

Make = Callable[..., xr.Dataset]


def test_the_grid_comes_from_coordinates_and_attributes(make: Make) -> None:
    grid = grid_of(make({"u": np.zeros((1, 1, 4, 6))}, boundary="wall,open"))
    assert grid.shape == (4, 6)
    assert grid.kind == "cartesian"
    assert grid.boundary_x == ("wall", "open")


def test_an_unknown_boundary_is_named(make: Make) -> None:
    data = make({"u": np.zeros((1, 1, 4, 6))}, boundary="round,round")
    with pytest.raises(
        DataError, match="boundary_y is 'round,round'; it must be 'low,high', each one of periodic"
    ):
        grid_of(data)


def test_an_unknown_grid_is_named(make: Make) -> None:
    with pytest.raises(DataError, match="grid is 'hexagonal'"):
        grid_of(make({"u": np.zeros((1, 1, 4, 6))}, grid="hexagonal"))


def test_a_field_without_space_is_named(make: Make) -> None:
    data = make({"u": np.zeros((1, 1, 4, 6))})
    with pytest.raises(DataError, match=r"'viscosity'.*without .'y', 'x'."):
        ordered_fields(data.assign(viscosity=("trajectory", [0.1])))


def test_fields_are_put_in_order_whatever_they_came_in(make: Make) -> None:
    data = make({"u": np.zeros((2, 3, 4, 6))}).transpose("x", "lead_time", "y", "trajectory")
    assert ordered_fields(data)["u"].dims == ("trajectory", "lead_time", "y", "x")


def test_normalised_fields_have_mean_zero_and_no_units(make: Make, rng: np.random.Generator) -> None:
    data = make({"u": rng.normal(5, 3, (2, 3, 4, 6))})
    found = normalised(data, {"u": float(data["u"].mean())}, {"u": float(data["u"].std())})
    assert float(found["u"].mean()) == pytest.approx(0, abs=1e-12)
    assert float(found["u"].std()) == pytest.approx(1)
    assert found.attrs == data.attrs
