import numpy as np
import pytest

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.regrid import Regrid
from pelagos.preprocessing.fields.regrid_cells import covers_globe, propose_rows, regrid_cells
from pelagos.preprocessing.sources.cells import Cells
from pelagos.preprocessing.sources.healpix import Healpix


def pixels(nside: int = 16, *, nested: bool = True, known: bool = True) -> Cells:
    grid = Healpix(nside, nested=nested)
    return Cells(*grid.centres(), "pixels", healpix=grid if known else None)


def smooth(latitude: Floats, longitude: Floats) -> Floats:
    north, east = np.deg2rad(latitude), np.deg2rad(longitude)
    return np.asarray(
        2 + np.sin(north) + np.cos(north) * np.cos(east - 1) + np.cos(north) ** 2 * np.sin(2 * east)
    )


@pytest.mark.parametrize("shape", [(9, 13), (32, 64)])
def test_the_conservative_method_keeps_the_integral(shape: tuple[int, int]) -> None:
    cells = pixels()
    values = np.random.default_rng(0).normal(size=(1, len(cells.latitude))) + 2
    regridder = regrid_cells(Regrid(shape=shape), cells, "x")
    found = regridder(values)
    assert found.shape == shape
    assert (found * regridder.grid.area_weights()).mean() == pytest.approx(values.mean(), rel=1e-12)
    assert regridder.grid.boundary_y == ("pole", "pole")
    assert regridder.grid.boundary_x == ("periodic", "periodic")


@pytest.mark.parametrize("method", ["conservative", "linear", "nearest"])
def test_constants_stay_what_they_are_beside_missing_values(method: str) -> None:
    cells = pixels()
    values = np.full(len(cells.latitude), 7.25)
    values[(cells.latitude > 20) & (cells.longitude < 90)] = np.nan
    found = regrid_cells(Regrid(method=method, shape=(18, 36)), cells, "x")(values)
    assert found[~np.isnan(found)] == pytest.approx(7.25, rel=1e-13)
    assert 0.05 < np.isnan(found).mean() < 0.15


@pytest.mark.parametrize(("method", "error"), [("conservative", 0.04), ("linear", 0.01), ("nearest", 0.15)])
def test_a_smooth_field_comes_back_to_the_error_stated(method: str, error: float) -> None:
    cells = pixels(32)
    regridder = regrid_cells(Regrid(method=method, shape=(45, 90)), cells, "x")
    north, east = np.meshgrid(regridder.grid.y, regridder.grid.x, indexing="ij")
    found = regridder(smooth(cells.latitude, cells.longitude))
    assert np.abs(found - smooth(north, east)).max() < error


def test_missing_cells_count_by_the_area_they_leave() -> None:
    cells = pixels(8)
    values = np.ones(len(cells.latitude))
    values[cells.latitude > 0] = np.nan
    shares = [
        np.isnan(regrid_cells(Regrid(shape=(5, 8), coverage=share), cells, "x")(values)).sum()
        for share in (0, 0.9)
    ]
    assert shares[0] < shares[1]  # the middle row is covered in part


def test_points_and_regions_are_taken_as_given() -> None:
    options = Regrid(method="linear", y=(50.0, 51), x=(359.0, 360, 361))
    regridder = regrid_cells(options, pixels(64), "x")
    assert regridder.grid.boundary_x == ("open", "open")
    field = smooth(pixels(64).latitude, pixels(64).longitude)
    wanted = smooth(np.array([[50.0], [51]]), np.array([[-1.0, 0, 1]]))
    assert regridder(field) == pytest.approx(wanted, abs=3e-3)
    region = regrid_cells(Regrid(shape=(4, 6)), pixels(8), "x", (30, 50), (350, 20)).grid
    assert region.y.tolist() == [32.5, 37.5, 42.5, 47.5]
    assert region.x.tolist() == [352.5, 357.5, 362.5, 367.5, 372.5, 377.5]


def test_a_limited_area_is_found_with_its_box_and_what_lies_beyond_is_missing_and_said() -> None:
    north, east = (axis.ravel() for axis in np.meshgrid(np.arange(40.0, 60), np.arange(340.0, 370) % 360))
    cells = Cells(north, east, "points")
    assert not covers_globe(cells)
    assert covers_globe(pixels(known=False))
    with collect() as found:
        regridder = regrid_cells(Regrid(method="linear", shape=(10, 12)), cells, "mine")
    assert (regridder.grid.x[0], regridder.grid.x[-1]) == pytest.approx((340 + 29 / 24, 369 - 29 / 24))
    assert not np.isnan(regridder(north)).any()
    assert regridder.grid.boundary_y == ("open", "open")
    assert "mine: 600 points became 10 x 12" in found.all[0].text
    with collect() as found:
        wider = regrid_cells(Regrid(method="nearest", y=(39.0, 50), x=(0.0, 5)), cells, "mine")
    assert np.isnan(wider(north)).tolist() == [[True, True], [False, False]]
    assert "2 of these lie outside" in found.all[0].text


def test_what_the_method_needs_is_said() -> None:
    with pytest.raises(
        ConfigError, match=r"conservative needs the corners of cells, which era does not give.*linear"
    ):
        regrid_cells(Regrid(shape=(4, 8)), pixels(4, known=False), "era")
    with pytest.raises(ConfigError, match=r"bilinear is for rows and columns; linear is right"):
        regrid_cells(Regrid(method="bilinear", shape=(4, 8)), pixels(4), "era")
    with pytest.raises(ConfigError, match=r"regrid.y: 95 is no latitude"):
        regrid_cells(Regrid(y=(0.0, 95), x=(0.0, 5)), pixels(4), "era")


def test_weights_have_a_digest_and_a_proposal_fits_the_cells() -> None:
    one, two = (regrid_cells(Regrid(shape=(4, 8)), pixels(4), "x").digest for _ in range(2))
    assert one == two != regrid_cells(Regrid(shape=(4, 9)), pixels(4), "x").digest
    assert propose_rows(pixels(64)) == pytest.approx(
        180 / 0.92, rel=0.02
    )  # 0.92 degrees: the root of a pixel's area
