"""CF: real and made weather files come out as xarray decodes them, and what is unclear is asked about."""

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.contracts import SourceContract
from tests.preprocessing.sources.formats.weather_archive import save, weather


class _Contract(SourceContract):
    def make(self, folder: Path) -> FileSource:
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        return self.make(tmp_path_factory.mktemp("weather"))


class TestNetCDF4(_Contract):
    def make(self, folder: Path) -> FileSource:
        for i in range(2):
            save(weather("t", "u", start=4 * i), folder / f"t_{i}.nc")
        return CF(paths=f"{folder}/t_*.nc")


class TestNetCDF3(_Contract):
    def make(self, folder: Path) -> FileSource:
        levels = weather("t").expand_dims(level=[500.0, 850.0], axis=1)
        return CF(paths=save(levels, folder / "t.nc3"))


def test_the_real_wfde5_files_become_one_dataset(shared: Path) -> None:
    folder = shared / "data/weather/wfde5"
    ds = CF(paths=f"{folder}/*.nc").open()
    assert set(ds) == {path.stem for path in folder.iterdir()}
    for path in folder.iterdir():
        with xr.open_dataset(path, engine="h5netcdf") as expected:
            (original,) = expected.data_vars.values()
            np.testing.assert_array_equal(ds[path.stem][0], original)
            assert ds[path.stem].attrs["units"] == original.attrs["units"]
            np.testing.assert_array_equal(ds.time, expected.time)
            np.testing.assert_array_equal(ds.y, expected.lat)
    assert np.isnan(ds.air_temperature[0, 0]).any()
    assert (ds.attrs["grid"], ds.attrs["boundary_x"], ds.attrs["boundary_y"]) == (
        "latlon",
        "open,open",
        "open,open",
    )


def test_the_real_era5_file_keeps_its_descending_latitudes(shared: Path) -> None:
    path = shared / "data/weather/era5_2t_uk_hourly_2019-03.nc"
    ds = CF(paths=str(path)).open()
    with xr.open_dataset(path, engine="h5netcdf") as expected:
        np.testing.assert_array_equal(ds.t2m[0], expected.t2m)
    assert (float(ds.y[0]), float(ds.y[-1]), float(ds.x[0])) == (58.0, 50.0, -10.0)
    turned = CF(paths=str(path), latitude="ascending").open()
    np.testing.assert_array_equal(turned.t2m[0, 7], ds.t2m[0, 7, ::-1])
    assert (float(turned.y[0]), turned.attrs["boundary_y"]) == (50.0, "open,open")


def test_the_real_packed_era_interim_file_is_unpacked(shared: Path) -> None:
    path = shared / "data/weather/eraint_uvz.nc"
    with pytest.raises(DataError, match=r"z has 2 values along month, .* as in axes: {time: month}"):
        CF(paths=str(path)).open()
    ds = CF(paths=str(path), axes={"time": "month"}).open()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xr.SerializationWarning)  # its fill value is NaN, of an integer
        expected = xr.open_dataset(path, engine="scipy").load()
    for name, key in (("geopotential", "z"), ("eastward_wind", "u"), ("northward_wind", "v")):
        np.testing.assert_array_equal(ds[name][0], expected[key])
        assert ds[name].attrs["units"] == expected[key].attrs["units"]
    np.testing.assert_array_equal(ds.level, [200, 500, 850])
    np.testing.assert_array_equal(ds.time, [1, 7])
    assert (ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == ("pole,pole", "periodic,periodic")


def test_the_real_credit_files_of_two_and_three_dimensions_are_merged(shared: Path) -> None:
    folder = shared / "data/weather/credit"
    ds = CF(paths=f"{folder}/era5.?d.198001.nc").open()
    for path, names in (("era5.2d.198001.nc", ("SP", "VAR_2T")), ("era5.3d.198001.nc", ("T", "Z"))):
        with xr.open_dataset(folder / path, engine="scipy") as expected:
            for name in names:
                np.testing.assert_array_equal(ds[name][0], expected[name])
    assert ds["T"].dims == ("trajectory", "time", "level", "y", "x")
    assert ds.level.attrs["units"] == "hPa"
    assert (ds.attrs["grid"], ds.x.attrs["units"]) == ("cartesian", "km")
    assert ds.attrs["not_read"] == "lat_bnds, lon_bnds, utc_date"


def test_the_real_static_fields_of_a_projected_grid_are_static(shared: Path) -> None:
    folder = shared / "data/weather/credit"
    names = ("T2", "HGT", "lat")
    ds = CF(paths=f"{folder}/conus404.*.nc", variables=names, standard_names=False).open()
    assert {name: ds[name].attrs["role"] for name in ds} == {
        "T2": "prognostic",
        "HGT": "static",
        "lat": "static",
    }
    with xr.open_dataset(folder / "conus404.static.nc", engine="scipy") as expected:
        np.testing.assert_array_equal(ds.HGT, expected.HGT)
    assert ds.HGT.dims == ("y", "x")


def test_netcdf_4_of_old_libraries_is_recognised_by_its_dimensions(tmp_path: Path) -> None:
    """Before version 4.4.1 netCDF left no mark at the root."""
    path = save(weather("t"), tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        del file.attrs["_NCProperties"]
    assert "likely cf" in propose(path)
    assert "accepts this as it is" in propose(path)
