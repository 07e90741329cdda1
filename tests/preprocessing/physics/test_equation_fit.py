"""Whether a store is what an equation takes it for: its grid, its length, its boundary and its units."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.equation_fit import check_fit
from pelagos.preprocessing.physics.kolmogorov import KolmogorovConfig
from pelagos.preprocessing.physics.navier_stokes import NavierStokesConfig
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.transform import Log1p
from pelagos.preprocessing.variables import Variable

FLOW = KolmogorovConfig().build()
GRID = FLOW.grid((8, 12))


def store(grid: Grid = GRID, time_units: str = "1", **changed: dict[str, Any]) -> SampleStore:
    """A store of the flow's fields, some of them changed."""

    def fields(variables: tuple[Variable, ...]) -> tuple[Variable, ...]:
        return tuple(v.model_copy(update=changed.get(v.key, {})) for v in variables)

    facts = {"label": "data.zarr", "grid": grid, "time_units": time_units}
    facts |= {"variables": fields(FLOW.variables), "static_variables": fields(FLOW.static_variables)}
    return cast(SampleStore, SimpleNamespace(**facts))


def stretched(factor: float) -> Grid:
    return replace(GRID, y=GRID.y * factor, x=GRID.x * factor)


@pytest.mark.parametrize("shape", [(8, 12), (33, 64)])
def test_an_equations_own_grid_fits_also_shifted_and_in_single_precision(shape: tuple[int, int]) -> None:
    grid = FLOW.grid(shape)
    check_fit(FLOW, store(grid))
    check_fit(FLOW, store(replace(grid, y=grid.y + 0.3, x=grid.x.astype("f4").astype("f8"))))


def test_si_units_fit_equations_whose_parameters_are_in_si_units() -> None:
    speed = {"units": "m s-1"}
    check_fit(FLOW, store(replace(GRID, units="m"), "s", velocity_x=speed, velocity_y=speed))


def test_kilometres_and_milliseconds_are_converted() -> None:
    flow = KolmogorovConfig(length=2000.0).build()
    found = check_fit(flow, store(replace(stretched(2.0), units="km"), "ms"))
    assert found.time == pytest.approx(1e-3)
    np.testing.assert_allclose(found.grid.x, GRID.x * 2000)
    assert check_fit(FLOW, store(time_units="days")).time == 86400


def test_along_an_axis_of_one_point_nothing_has_to_fit() -> None:
    row = replace(GRID, y=np.zeros(1), boundary_y=("unknown", "unknown"))
    found = check_fit(FLOW, store(row)).grid
    assert (found.shape, found.periodic) == ((1, 12), (True, True))


def test_another_length_is_named_beside_the_equations() -> None:
    with pytest.raises(DataError, match=r"data.zarr .*length of 6.28319, the equation's length is 1"):
        check_fit(FLOW, store(stretched(2 * math.pi)))


REFUSED = {
    "both ends on the axis": (store(replace(GRID, x=np.linspace(0, 1, 12))), "12 points .* along x"),
    "walls": (store(replace(GRID, boundary_y=("wall", "wall"))), "boundary_y is wall,wall, .* periodic"),
    "uneven": (store(replace(GRID, y=GRID.y**2)), "along y are uneven"),
    "descending": (store(replace(GRID, y=GRID.y[::-1])), "y descends"),
    "a sphere": (store(replace(GRID, kind="latlon")), "grid is latlon, the equation's is cartesian"),
    "kilometres": (
        store(replace(GRID, units="km")),
        r"length of 1000 m \(km converted\), the equation's length is 1",
    ),
    "positions in kelvins": (store(replace(GRID, units="K")), "y and x are in 'K', which is no length"),
    "times in metres": (store(time_units="m"), "times are in 'm', which is no time"),
    "other speeds": (
        store(velocity_x={"units": "km h-1"}),
        r"velocity_x is in 'km h-1'.*convert: \{velocity_x: m s-1\}",
    ),
    "no speeds": (
        store(velocity_x={"units": "furlongs"}),
        "velocity_x is in 'furlongs'.* this one is not known",
    ),
    "logarithms": (store(force_x={"transform": Log1p()}), "force_x is stored as"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_equation_would_take_for_something_else_is_refused(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        check_fit(FLOW, data)


def test_fields_that_act_on_the_data_and_not_on_the_equation_are_refused() -> None:
    decaying, forced = NavierStokesConfig().build(), store()
    message = (
        "static fields force_x, force_y, which the navier_stokes equation knows nothing of: take another"
    )
    with pytest.raises(DataError, match=message):
        check_fit(decaying, forced)
    sun = Variable(name="insolation", role="forcing")
    lit = SimpleNamespace(**{**vars(forced), "variables": (*forced.variables, sun)})
    with pytest.raises(
        DataError, match="the forcings insolation, which the kolmogorov equation knows nothing"
    ):
        check_fit(FLOW, cast(SampleStore, lit))
    still = SimpleNamespace(**{**vars(forced), "static_variables": ()})
    check_fit(decaying, cast(SampleStore, still))
