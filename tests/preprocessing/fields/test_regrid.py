from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.regrid import Regrid
from pelagos.preprocessing.grid import Grid, Sides

PERIODIC: Sides = ("periodic", "periodic")
OPEN: Sides = ("open", "open")
POLE: Sides = ("pole", "pole")
GLOBE = Grid("latlon", np.linspace(90, -90, 37), np.arange(0, 360, 5.0), POLE, PERIODIC)
BOX = Grid("cartesian", (np.arange(12) + 0.5) / 12, (np.arange(18) + 0.5) / 12, OPEN, OPEN, "m")
TORUS = Grid("cartesian", np.arange(12) / 12, np.arange(16) / 16, PERIODIC, PERIODIC)


def mean(values: np.ndarray[Any, Any], grid: Grid) -> float:
    return float((values * grid.area_weights()).mean())


@pytest.mark.parametrize("source", [GLOBE, BOX, TORUS], ids=["globe", "box", "torus"])
@pytest.mark.parametrize("shape", [(5, 7), (12, 18), (50, 40)])
def test_conservative_regridding_keeps_the_integral(source: Grid, shape: tuple[int, int]) -> None:
    regridder = Regrid(shape=shape).build(source)
    values = np.random.default_rng(0).normal(size=source.shape) + 2
    result = regridder(values)
    assert result.shape == shape
    assert mean(result, regridder.grid) == pytest.approx(mean(values, source), rel=1e-12)


def test_conservative_regridding_keeps_the_integral_of_what_is_known() -> None:
    values = np.random.default_rng(0).normal(size=GLOBE.shape) + 2
    known = np.ones(GLOBE.shape)
    values[10:20, 30:50] = np.nan
    known[10:20, 30:50] = 0
    regridder = Regrid(shape=(9, 11)).build(GLOBE)
    result, share = regridder(values), regridder(known)
    assert np.isnan(result).sum() == (share == 0).sum() > 0
    assert mean(np.nan_to_num(result) * share, regridder.grid) == pytest.approx(
        mean(np.nan_to_num(values), GLOBE), rel=1e-12
    )


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
@pytest.mark.parametrize("source", [GLOBE, BOX, TORUS], ids=["globe", "box", "torus"])
def test_constants_stay_what_they_are_beside_missing_values(source: Grid, method: Any) -> None:
    values = np.full(source.shape, 7.25)
    values[3:6, 2:7] = np.nan
    result = Regrid(method=method, shape=(23, 31)).build(source)(values)
    assert result[~np.isnan(result)] == pytest.approx(7.25, rel=1e-14)
    assert 0 < np.isnan(result).mean() < 0.5


def test_bilinear_regridding_is_exact_for_linear_functions() -> None:
    y, x = np.linspace(0.05, 0.95, 8), np.linspace(0.1, 1.4, 9)
    result = Regrid(method="bilinear", y=tuple(y), x=tuple(x)).build(BOX)(
        3 * BOX.y[:, None] - 2 * BOX.x + BOX.y[:, None] * BOX.x
    )
    assert result == pytest.approx(3 * y[:, None] - 2 * x + y[:, None] * x, abs=1e-13)


def test_regridding_onto_the_same_points_changes_nothing() -> None:
    values = np.random.default_rng(0).normal(size=GLOBE.shape)
    values[4, 5] = np.nan
    for method in ("conservative", "bilinear"):
        regrid = Regrid(method=method, y=tuple(GLOBE.y), x=tuple(GLOBE.x))
        result = regrid.build(GLOBE)(values)
        assert result == pytest.approx(values, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("method", ["conservative", "bilinear"])
def test_it_matters_neither_where_longitudes_start_nor_which_way_rows_run(method: Any) -> None:
    values = np.random.default_rng(0).normal(size=GLOBE.shape)
    rows, columns = Regrid(shape=(10, 1)).build(GLOBE).grid.y, -180 + 7.5 * np.arange(48)
    target = {"y": tuple(rows), "x": tuple(columns)}
    expected = Regrid(method=method, **target).build(GLOBE)(values)
    turned = Grid("latlon", GLOBE.y[::-1], np.roll(GLOBE.x, 30) - 360 * (np.arange(72) < 30), POLE, PERIODIC)
    result = Regrid(method=method, **target).build(turned)(np.roll(values, 30, axis=1)[::-1])
    assert result == pytest.approx(expected, rel=1e-12)
    eastern = Regrid(method=method, y=tuple(rows), x=tuple(columns % 360)[24:]).build(GLOBE)
    assert eastern(values) == pytest.approx(expected[:, 24:], rel=1e-12)


def test_periodic_axes_are_interpolated_across_the_seam() -> None:
    regrid = Regrid(method="bilinear", y=(0.0, 0.5), x=tuple(1 / 32 + np.arange(16) / 16))
    values = np.tile(np.arange(16.0), (12, 1))
    assert regrid.build(TORUS)(values)[0].tolist() == pytest.approx([*np.arange(15) + 0.5, 7.5])


@pytest.mark.parametrize("coverage", [0.0, 0.4, 0.6])
def test_coverage_says_how_much_of_a_cell_must_be_known(coverage: float) -> None:
    values = np.ones(BOX.shape)
    values[0] = np.nan  # half of the first of six rows of cells
    result = Regrid(shape=(6, 9), coverage=coverage).build(BOX)(values)
    assert np.isnan(result[0]).all() == (coverage > 0.5)
    assert not np.isnan(result[1:]).any()


def test_sides_stay_what_they_are_where_the_domain_still_ends_there() -> None:
    walls = Grid("cartesian", BOX.y, BOX.x, ("wall", "open"), ("wall", "wall"))
    whole = Regrid(shape=(3, 4)).build(walls).grid
    assert (whole.boundary_y, whole.boundary_x) == (("wall", "open"), ("wall", "wall"))
    part = Regrid(y={"start": 0.1, "step": 0.2, "num": 3}, x=(0.1, 0.3)).build(walls).grid
    assert (part.boundary_y, part.boundary_x) == (("wall", "open"), ("wall", "open"))
    upside_down = Regrid(y=(0.5, 0.3, 0.1), x=(0.1, 0.3)).build(walls).grid
    assert upside_down.boundary_y == ("open", "wall")
    globe = Regrid(shape=(18, 36)).build(GLOBE).grid
    assert (globe.boundary_y, globe.boundary_x) == (POLE, PERIODIC)
    assert globe.y.tolist() == [85 - 10 * row for row in range(18)]
    europe = Regrid(y=(60.0, 50.0, 40.0), x=(-10.0, 0.0, 10.0)).build(GLOBE).grid
    assert (europe.boundary_y, europe.boundary_x) == (OPEN, OPEN)


def test_points_outside_of_the_source_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"regrid.x: 1.6 lies outside the source, .* from 0 to 1.5"):
        Regrid(y=(0.5, 0.6), x=(1.4, 1.6)).build(BOX)
    region = Grid("latlon", np.arange(40, 60.0), np.arange(350, 371.0))
    inside = Regrid(y=(45.0, 50.0), x=(-5.0, 5.0)).build(region)
    assert inside(np.broadcast_to(region.x, region.shape))[0] == pytest.approx([355, 365])
    with pytest.raises(ConfigError, match=r"regrid.x: 20 lies outside"):
        Regrid(y=(45.0, 50.0), x=(10.0, 20.0)).build(region)


def test_a_target_is_a_shape_or_two_axes() -> None:
    for wrong in ({}, {"shape": (2, 2), "y": (1.0,)}, {"y": (1.0,)}):
        with pytest.raises(ValidationError, match="give either shape, or both y and x"):
            Regrid.model_validate(wrong)
