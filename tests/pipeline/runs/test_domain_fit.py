"""A model knows where it may be used: what differs is converted, refused, or said."""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from pelagos.pipeline.runs.domain_fit import DomainFit, fit, lead_warnings, reach_notes
from pelagos.pipeline.runs.model_folder import Domain
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import Variable

GRID = Grid(
    "cartesian",
    np.arange(6) / 2,
    np.arange(8) / 4,
    ("wall", "open"),
    ("periodic", "periodic"),
    units="m",
)
WORLD = Grid(
    "latlon",
    np.array([60.0, 30.0, 0.0, -30.0, -60.0]),
    np.array([0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0]),
    ("pole", "pole"),
    ("periodic", "periodic"),
    "degrees",
)
U = Variable(name="u", level=850.0)


@dataclass(frozen=True)
class Described:
    """A store, as far as it is held against a model."""

    grid: Grid = GRID
    time_units: str = "s"
    label: str = "data.zarr"
    level: dict[str, str] = field(default_factory=dict)


def held(store: Described, *conditions: str, **known: Any) -> DomainFit:
    values = {"time_units": "s", "grid": TrainedGrid.of(GRID), "horizon": 3.0, **known}
    domain = Domain(inputs=(U,), outputs=(U,), scales={}, **values)
    return fit(domain, cast(SampleStore, store), conditions)


def test_the_data_of_training_fit_as_they_are() -> None:
    found = held(Described())
    assert found.grid is GRID
    assert (found.flips, found.time, found.horizon) == ((), 1.0, 3.0)
    assert found.notes == found.warnings == ()


def test_rows_the_other_way_round_are_flipped() -> None:
    reversed_rows = replace(GRID, y=GRID.y[::-1], boundary_y=GRID.boundary_y[::-1])
    found = held(Described(reversed_rows))
    np.testing.assert_array_equal(found.grid.y, GRID.y)
    assert found.grid.boundary_y == GRID.boundary_y
    assert found.flips == (-2,)
    fields = np.arange(48, dtype=np.float32).reshape(6, 8)
    np.testing.assert_array_equal(found.turned(fields), fields[::-1])
    assert "the rows of data.zarr run from 2.5 to 0, in training from 0 to 2.5" in found.notes[0]
    assert found.warnings == ()


@pytest.mark.parametrize(("units", "factor"), [("ms", 1e-3), ("h", 3600.0), ("seconds", 1.0)])
def test_other_units_of_time_are_converted(units: str, factor: float) -> None:
    found = held(Described(time_units=units))
    assert found.time == pytest.approx(factor)
    assert found.horizon == pytest.approx(3.0 / factor)
    assert len(found.notes) == (factor != 1)


def test_units_of_time_that_measure_something_else_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.zarr has times in '1', the model learnt lead times in 's'"):
        held(Described(time_units="1"))


def test_another_spacing_is_said_unless_the_network_is_told() -> None:
    finer = Described(replace(GRID, x=GRID.x / 2))
    [warning] = held(finer).warnings
    assert "columns 0.125 m apart, in training 0.25 m" in warning
    assert held(finer, "spacing_x").warnings == ()
    assert held(finer, "spacing_y").warnings != ()


def test_spacings_in_other_units_are_converted() -> None:
    found = held(Described(replace(GRID, y=GRID.y / 1000, x=GRID.x / 1000, units="km")))
    assert found.grid.spacing == pytest.approx(GRID.spacing)
    assert found.warnings == ()
    [warning] = held(Described(replace(GRID, units="1"))).warnings
    assert "the grid is in '1', in training it was in 'm'" in warning


def test_other_boundaries_other_places_and_other_kinds_do_not_pass_in_silence() -> None:
    [warning] = held(Described(replace(GRID, boundary_x=("wall", "wall")))).warnings
    assert "the grid is not periodic along x, in training it was periodic" in warning
    shifted = Described(replace(WORLD, x=WORLD.x - 180.0))
    [warning] = held(shifted, grid=TrainedGrid.of(WORLD)).warnings
    assert "the columns lie from -180 to 135 degrees, in training from 0 to 315" in warning
    with pytest.raises(DataError, match="has a latlon grid, the model was trained on a cartesian one"):
        held(Described(WORLD))


def test_levels_in_other_units_are_refused() -> None:
    with pytest.raises(DataError, match="levels in Pa, the model's are in hPa"):
        held(Described(level={"units": "Pa"}), level_units="hPa")
    assert held(Described(level={"units": "millibar"}), level_units="hPa").warnings == ()


def test_a_model_that_does_not_say_is_said_once() -> None:
    reversed_rows = Described(replace(GRID, y=GRID.y[::-1]))
    found = held(reversed_rows, grid=None, time_units=None)
    assert (found.grid, found.flips, found.time) == (reversed_rows.grid, (), 1.0)
    assert len(found.warnings) == 1
    assert "taken to be those of data.zarr" in found.warnings[0]


def test_lead_times_outside_training_are_said() -> None:
    domain = Domain(inputs=(U,), outputs=(U,), scales={}, time_units="s", min_lead=0.5, max_lead=2.0)
    assert lead_warnings(domain, 0.5, 2.0) == []
    assert (
        "a lead time of 4 s; the longest that it was trained on is 2 s" in lead_warnings(domain, 0.5, 4.0)[0]
    )
    assert "a lead time of 0.1 s; the shortest" in lead_warnings(domain, 0.1, 0.4)[0]
    assert lead_warnings(domain.model_copy(update={"min_lead": 0.0, "max_lead": 0.0}), 0.1, 9.0) == []


def test_rollouts_beyond_the_horizon_are_said() -> None:
    domain = Domain(inputs=(U,), outputs=(U,), scales={}, time_units="h", max_lead=6.0, horizon=24.0)
    assert reach_notes(domain, 24.0) == []
    assert reach_notes(domain, 240.0) == ["forecasts reach a lead time of 240 h, training reached 24 h"]


def test_domains_of_earlier_versions_are_read() -> None:
    written = {
        "inputs": [U.model_dump(mode="json")],
        "outputs": [U.model_dump(mode="json")],
        "scales": {"u@850": {"mean": 0.0, "std": 1.0}},
        "scalars": [],
        "time_scale": 0.5,
        "max_lead": 0.0,
        "frames": 1,
    }
    domain = Domain.model_validate(written)
    assert (domain.grid, domain.time_units, domain.horizon) == (None, None, 0.0)
    assert len(fit(domain, cast(SampleStore, Described()), ()).warnings) == 1
