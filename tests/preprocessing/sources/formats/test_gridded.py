"""Gridded sources: files are merged and joined in time, and grids know what lies beyond their edges."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import RNG, save, weather

Change = Callable[[xr.Dataset], xr.Dataset]


def test_axes_in_any_order_come_out_in_the_conventions(tmp_path: Path) -> None:
    ds = weather("t").expand_dims(level=[500, 850])
    path = save(ds.transpose("time", "level", "lon", "lat"), tmp_path / "a.nc")
    np.testing.assert_array_equal(CF(paths=path).open().t[0], ds.t.transpose("time", "level", "lat", "lon"))


def test_files_in_any_order_are_joined_in_time(tmp_path: Path) -> None:
    ds = weather("t", times=12)
    for name, part in (("c", slice(0, 3)), ("a", slice(3, 8)), ("b", slice(8, 12))):
        save(ds.isel(time=part), tmp_path / f"{name}.nc")
    found = CF(paths=f"{tmp_path}/*.nc").open()
    np.testing.assert_array_equal(found.time, ds.time)
    np.testing.assert_array_equal(found.t[0], ds.t)
    np.testing.assert_array_equal(found.t[0, [9, 2, 4]], ds.t[[9, 2, 4]])


def test_snapshots_without_an_axis_of_time_are_joined(tmp_path: Path) -> None:
    ds = weather("t", times=3)
    for i in range(3):
        save(ds.isel(time=i), tmp_path / f"t{i}.nc")
    found = CF(paths=f"{tmp_path}/*.nc").open()
    np.testing.assert_array_equal(found.t[0], ds.t)
    np.testing.assert_array_equal(found.time, ds.time)


def test_a_static_field_that_files_repeat_is_read_once(tmp_path: Path) -> None:
    mask = RNG.normal(size=(5, 6)).astype("f4")
    for i in range(2):
        save(weather("t", start=4 * i).assign(mask=(("lat", "lon"), mask)), tmp_path / f"{i}.nc")
    found = CF(paths=f"{tmp_path}/*.nc").open()
    assert found.mask.dims == ("y", "x")
    np.testing.assert_array_equal(found.mask, mask)


@pytest.mark.parametrize(
    ("longitudes", "kind"),
    [
        (np.arange(0, 360, 60.0), "periodic"),
        (np.arange(-180, 180, 60.0), "periodic"),
        (np.arange(0, 300, 50.0), "open"),
        (np.array([0, 60, 120, 200, 240, 300.0]), "open"),
    ],
)
def test_longitudes_around_the_globe_are_periodic(tmp_path: Path, longitudes: np.ndarray, kind: str) -> None:
    ds = weather("t").assign_coords(lon=("lon", longitudes, {"units": "degrees_east"}))
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    assert found.attrs["boundary_x"] == f"{kind},{kind}"
    np.testing.assert_array_equal(found.x, longitudes)


@pytest.mark.parametrize(
    ("latitudes", "sides"),
    [
        (np.linspace(90, -90, 5), "pole,pole"),
        (np.linspace(-72, 72, 5), "pole,pole"),  # half a row from the poles
        (np.array([-85.76, -80.27, -74.74, -69.21, -63.68]), "pole,open"),  # Gaussian, T21
        (np.linspace(-80, 0, 5), "pole,open"),
        (np.linspace(-70, 0, 5), "open,open"),
    ],
)
def test_a_side_is_a_pole_if_no_row_would_fit_before_it(
    tmp_path: Path, latitudes: np.ndarray, sides: str
) -> None:
    found = CF(paths=save(weather("t", latitude=latitudes), tmp_path / "a.nc")).open()
    assert found.attrs["boundary_y"] == sides


def test_turning_latitudes_turns_their_sides(tmp_path: Path) -> None:
    path = save(weather("t", latitude=np.linspace(90, 0, 5)), tmp_path / "a.nc")
    assert CF(paths=path).open().attrs["boundary_y"] == "pole,open"
    assert CF(paths=path, latitude="descending").open().attrs["boundary_y"] == "pole,open"
    assert CF(paths=path, latitude="ascending").open().attrs["boundary_y"] == "open,pole"


def test_latitudes_of_a_projected_grid_cannot_be_turned(shared: Path) -> None:
    with pytest.raises(ConfigError, match="rows of a projected grid are not latitudes"):
        CF(paths=str(shared / "data/weather/credit/era5.2d.198001.nc"), latitude="ascending").open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ds: ds.assign_coords(lon=ds.lon + 0.5 * (ds.lon > 4)),
            r"differ in x: point 2 is 5\.0 and 5\.5",
        ),
        (lambda ds: ds.isel(lat=slice(1, None)), "differ in y: 5 and 4 points"),
        (lambda ds: ds.isel(lat=slice(None, None, -1)), r"differ in y: point 0 is 60\.0 and 50\.0"),
        (
            lambda ds: ds.assign_coords(time=ds.time + np.timedelta64(30, "m")),  # no time in common
            r"differ in time: point 0 is 2020-01-01T00:00.* and 2020-01-01T00:30",
        ),
    ],
)
def test_files_on_different_coordinates_are_named_with_the_first_difference(
    tmp_path: Path, change: Change, message: str
) -> None:
    save(weather("t"), tmp_path / "a.nc")
    save(change(weather("u")), tmp_path / "b.nc")
    with pytest.raises(DataError, match=r"a\.nc and .*b\.nc " + message):
        CF(paths=f"{tmp_path}/*.nc").open()


def test_coordinates_in_single_precision_are_the_same(tmp_path: Path) -> None:
    save(weather("t"), tmp_path / "a.nc")
    ds = weather("u")
    save(ds.assign_coords(lat=ds.lat.astype("f4"), lon=ds.lon.astype("f4")), tmp_path / "b.nc")
    assert set(CF(paths=f"{tmp_path}/*.nc").open()) == {"t", "u"}


def test_files_that_overlap_in_time_are_named(tmp_path: Path) -> None:
    save(weather("t"), tmp_path / "a.nc")
    save(weather("t", start=3), tmp_path / "b.nc")
    with pytest.raises(
        DataError, match=r"a\.nc and .*b\.nc overlap: t up to 2020-01-01T03.* and from 2020-01-01T03"
    ):
        CF(paths=f"{tmp_path}/*.nc").open()


def test_static_fields_alone_are_no_dataset(tmp_path: Path) -> None:
    path = save(weather("t").isel(time=0, drop=True), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc and its like: no field depends on time"):
        CF(paths=path).open()


def test_the_boundary_can_be_said(tmp_path: Path) -> None:
    source = CF.model_validate(
        {"paths": save(weather("t"), tmp_path / "a.nc"), "boundary": {"y": "open", "x": "wall"}}
    )
    assert source.open().attrs["boundary_x"] == "wall,wall"
