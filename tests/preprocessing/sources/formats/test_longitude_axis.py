"""Latitudes and longitudes are recognised however they are written, and columns come in one order, each once."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import Assumption, collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.longitude_axis import LongitudeAxis
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.sources.formats.weather_archive import save, weather


def bare(y: str, x: str, units: str | None = None) -> xr.Dataset:
    """A field on axes of these names, whose attributes say no more than their units."""
    ds = weather("t").drop_attrs().rename(lat=y, lon=x)
    ds["t"].attrs["units"] = "K"
    for name in (y, x) if units else ():
        ds[name].attrs["units"] = units
    return ds


def on(longitudes: np.ndarray) -> xr.Dataset:
    """Fields that are their longitude, modulo 360."""
    values = np.broadcast_to(np.round(longitudes % 360, 6), (4, 5, len(longitudes))).astype("f4")
    lon = ("lon", longitudes, {"units": "degrees_east"})
    field = (("time", "lat", "lon"), values, {"units": "degrees"})
    return weather("t").isel(lon=0, drop=True).assign_coords(lon=lon).assign(t=field)


def opened(path: str) -> tuple[xr.Dataset, list[Assumption]]:
    with collect() as found:
        ds = CF(paths=path).open()
    return ds, list(found.all)


@pytest.mark.parametrize("suffix", [".nc", ".nc3", ".zarr"])
@pytest.mark.parametrize("units", [None, "degrees", "Degrees_North"])
@pytest.mark.parametrize("names", [("Latitude", "Longitude"), ("LAT", "LON"), ("lats", "lons")])
def test_names_and_units_count_in_any_case(
    tmp_path: Path, names: tuple[str, str], units: str | None, suffix: str
) -> None:
    ds = bare(*names, units)
    if units == "Degrees_North":
        ds[names[1]].attrs["units"] = "Degrees_East"
    found, assumed = opened(save(ds, tmp_path / f"a{suffix}"))
    assert (found.attrs["grid"], found.y.attrs["units"]) == ("latlon", "degrees_north")
    assert not assumed


def test_axes_that_are_named_by_the_user_are_angles_by_their_own_names(tmp_path: Path) -> None:
    path = save(bare("Latitude", "Longitude"), tmp_path / "a.nc")
    assert CF(paths=path, axes={"y": "Latitude", "x": "Longitude"}).open().attrs["grid"] == "latlon"


def test_degrees_without_a_name_are_asked_about_and_can_be_said(tmp_path: Path) -> None:
    path = save(bare("north_south", "west_east", "degrees"), tmp_path / "a.nc")
    source = {"kind": "cf", "paths": path, "axes": {"y": "north_south", "x": "west_east"}}
    with pytest.raises(
        ConfigError, match=r"(?s)grid: .*a\.nc: its rows .*source\.grid: latlon, or cartesian"
    ):
        build(BuildConfig.model_validate({"dataset": "a", "root": tmp_path, "source": source}))
    source["grid"] = "latlon"
    made = build(BuildConfig.model_validate({"dataset": "a", "root": tmp_path, "source": source}))
    assert open_store(made).grid.kind == "latlon"


def test_radians_become_degrees(tmp_path: Path) -> None:
    ds = weather("t", latitude=np.linspace(-80, 80, 5))
    turned = ds.assign_coords(
        lat=("lat", np.deg2rad(ds.lat.values), {"standard_name": "latitude", "units": "radian"}),
        lon=("lon", np.deg2rad(ds.lon.values), {"standard_name": "longitude", "units": "radian"}),
    )
    found, assumed = opened(save(turned, tmp_path / "a.nc"))
    np.testing.assert_allclose(found.y, ds.lat)
    np.testing.assert_allclose(found.x, ds.lon)
    assert {one.code for one in assumed} == {"units_converted"}


def test_rows_beyond_the_poles_are_no_latitudes(tmp_path: Path) -> None:
    path = save(weather("t", latitude=np.linspace(-100, 100, 5)), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc: its rows go from -100 to 100, but latitudes"):
        CF(paths=path).open()


@pytest.mark.parametrize("suffix", [".nc", ".nc3", ".zarr"])
@pytest.mark.parametrize(
    ("longitudes", "kept"),
    [
        (np.arange(0, 361, 20.0), 18),
        (np.arange(-180, 181, 20.0), 18),
        (np.arange(360, -1, -20.0), 18),
        (np.arange(0, 361, 20, dtype="f4"), 18),
        (np.arange(-20, 381, 20.0), 18),  # a halo of one column and more
        (np.array([0, 60, 120, 200, 240, 300, 360.0]), 6),  # uneven, but it comes round
        (np.array([180.0, 270, 0, 90, 180]), 4),  # across the seam as well
    ],
)
def test_columns_that_come_again_are_left_out_and_the_axis_goes_round(
    tmp_path: Path, longitudes: np.ndarray, kept: int, suffix: str
) -> None:
    found, assumed = opened(save(on(longitudes), tmp_path / f"a{suffix}"))
    assert found.attrs["boundary_x"] == "periodic,periodic"
    assert found.sizes["x"] == kept
    np.testing.assert_array_equal(found.t.values[0, 0, 0], found.x.values % 360)
    assert len(set(found.x.values % 360)) == kept
    assert "columns_dropped" in {one.code for one in assumed}


@pytest.mark.parametrize(
    ("longitudes", "unwrapped"),
    [
        (np.append(np.arange(350, 360, 2.5), np.arange(0, 11, 2.5)), np.arange(-10, 11, 2.5)),
        (np.append(np.arange(170, 180, 5.0), np.arange(-180, -169, 5.0)), np.arange(170, 191, 5.0)),
        (np.append(np.arange(10, -1, -5.0), np.arange(355, 349, -5.0)), np.arange(10, -11, -5.0)),
        (np.append(np.arange(180, 360, 30.0), np.arange(0, 180, 30.0)), np.arange(-180, 180, 30.0)),
    ],
)
def test_longitudes_across_the_seam_are_put_in_order(
    tmp_path: Path, longitudes: np.ndarray, unwrapped: np.ndarray
) -> None:
    found, assumed = opened(save(on(longitudes), tmp_path / "a.nc"))
    np.testing.assert_array_equal(found.x, unwrapped)
    np.testing.assert_array_equal(found.t.values[0, 0, 0], unwrapped % 360)
    assert found.attrs["boundary_x"] == ("periodic,periodic" if len(unwrapped) == 12 else "open,open")
    assert {one.code for one in assumed} == {"longitudes_unwrapped"}


def test_longitudes_in_no_order_are_refused_with_the_file_and_the_place(tmp_path: Path) -> None:
    path = save(on(np.array([0.0, 10, 30, 20, 40])), tmp_path / "a.nc")
    with pytest.raises(
        DataError, match=r"a\.nc: its longitudes are in no order: columns 2 and 3 are at 30 and 20"
    ):
        CF(paths=path).open()


def test_a_grid_that_comes_round_to_another_place_is_refused() -> None:
    with pytest.raises(DataError, match="round the Earth more than once"):
        LongitudeAxis.of(Path("a.nc"), np.arange(0, 400, 7.0))


def test_limited_areas_and_whole_circles_stay_as_they_are() -> None:
    for longitudes in (np.arange(0, 360, 2.5), np.arange(-10, 20.0), np.arange(350, 380, 2.5), np.zeros(1)):
        with collect() as found:
            axis = LongitudeAxis.of(Path("a.nc"), longitudes)
        assert not axis.repeats
        assert axis.values is longitudes
        assert not found.all
