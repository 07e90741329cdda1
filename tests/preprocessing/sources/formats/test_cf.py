"""CF: real and made weather files come out as xarray decodes them, and what is unclear is asked about."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
START = np.datetime64("2020-01-01T00", "ns")
HOUR = np.timedelta64(1, "h")


def weather(*names: str, times: int = 4, start: int = 0, latitude: np.ndarray | None = None) -> xr.Dataset:
    """Hourly fields on 5 latitudes, descending, and 6 longitudes."""
    latitude = np.linspace(60, 50, 5) if latitude is None else latitude
    shape = (times, len(latitude), 6)
    return xr.Dataset(
        {
            name: (("time", "lat", "lon"), RNG.normal(size=shape).astype("f4"), {"units": "K"})
            for name in names
        },
        {
            "time": START + (start + np.arange(times)) * HOUR,
            "lat": ("lat", latitude, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", np.arange(6) * 2.5, {"standard_name": "longitude", "units": "degrees_east"}),
        },
    )


def save(ds: xr.Dataset, path: Path) -> str:
    """netCDF-3 for .nc3, Zarr for .zarr, otherwise netCDF-4."""
    if path.suffix == ".zarr":
        ds.to_zarr(path, consolidated=False)
    else:
        ds.to_netcdf(path, engine="scipy" if path.suffix == ".nc3" else "h5netcdf")
    return str(path)


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


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
def test_packed_values_and_fill_values_are_decoded_as_xarray_does(tmp_path: Path, suffix: str) -> None:
    ds = weather("packed", "plain", "whole")
    ds["packed"][0, 0, :2] = np.nan
    ds["plain"][0, 0, :2] = np.nan
    ds["whole"] = (ds.whole.dims, RNG.integers(0, 9, size=ds.whole.shape).astype("i2"))
    ds.packed.encoding = {"dtype": "i2", "scale_factor": -0.001, "add_offset": 2.5, "_FillValue": -32767}
    ds.plain.encoding = {"_FillValue": np.float32(1e20)}
    path = save(ds, tmp_path / f"a.{suffix}")
    found = CF(paths=path).open()
    engine = {"nc": "h5netcdf", "nc3": "scipy", "zarr": "zarr"}[suffix]
    more: dict[str, Any] = {"consolidated": False} if suffix == "zarr" else {}
    with xr.open_dataset(path, engine=engine, **more) as expected:
        for name in ds:
            np.testing.assert_array_equal(found[name][0], expected[name])
            np.testing.assert_array_equal(found[name][0, 1:3, ::-2], expected[name][1:3, ::-2])
    assert np.isnan(found.packed).sum() == np.isnan(found.plain).sum() == 2
    assert found.plain.dtype == found.whole.dtype == np.float32


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


def test_axes_of_length_one_are_dropped_and_longer_ones_asked_about(tmp_path: Path) -> None:
    ds = weather("t")
    one = save(ds.expand_dims(number=[0], axis=1), tmp_path / "one.nc")
    np.testing.assert_array_equal(CF(paths=one).open().t[0], ds.t)
    two = save(ds.expand_dims(number=[0, 1], axis=1).assign(u=ds.t), tmp_path / "two.nc")
    with pytest.raises(DataError, match=r"two\.nc: t has 2 values along number, .* leave t out by variables"):
        CF(paths=two).open()
    assert set(CF(paths=two, variables=("u",)).open()) == {"u"}


def test_a_static_field_is_read_from_the_first_file_that_has_it(tmp_path: Path) -> None:
    for i in range(2):
        ds = weather("t", start=4 * i)
        save(ds.assign(mask=(("lat", "lon"), np.full((5, 6), i, "f4"))), tmp_path / f"{i}.nc")
    found = CF(paths=f"{tmp_path}/*.nc").open()
    assert (found.mask.dims, float(found.mask.max())) == (("y", "x"), 0)


@pytest.mark.parametrize(
    ("longitudes", "kind"),
    [
        (np.arange(0, 360, 60.0), "periodic"),
        (np.arange(-180, 180, 60.0), "periodic"),
        (np.arange(0, 361, 72.0), "open"),  # the first meridian is repeated
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


def test_standard_names_and_renaming_name_the_fields(tmp_path: Path) -> None:
    ds = weather("Tair", "u10", "q")
    ds.Tair.attrs["standard_name"] = "air_temperature"
    ds.u10.attrs["standard_name"] = "unknown"
    path = save(ds, tmp_path / "a.nc")
    assert set(CF(paths=path).open()) == {"air_temperature", "u10", "q"}
    assert set(CF(paths=path, standard_names=False).open()) == {"Tair", "u10", "q"}
    renamed = CF(
        paths=path, rename={"Tair": "t2m", "q": "specific_humidity"}, variables=("specific_humidity", "t2m")
    )
    assert list(renamed.open()) == ["specific_humidity", "t2m"]
    with pytest.raises(
        DataError, match=r"a\.nc: no q; fields: t2m, u10, specific_humidity; not on the grid: none"
    ):
        CF(paths=path, rename=renamed.rename, variables=("q",)).open()


def test_two_fields_of_one_name_are_asked_about(tmp_path: Path) -> None:
    ds = weather("u10", "u100")
    for name in ds:
        ds[name].attrs["standard_name"] = "eastward_wind"
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc: u100 and u10 are both called eastward_wind; say rename"):
        CF(paths=path).open()
    save(ds[["u10"]], tmp_path / "b_1.nc")
    save(ds[["u100"]], tmp_path / "b_2.nc")
    with pytest.raises(DataError, match=r"b_1\.nc: u10 .* and .*b_2\.nc: u100 .* tell them apart by rename"):
        CF(paths=f"{tmp_path}/b_*.nc").open()
    assert set(CF(paths=f"{tmp_path}/b_*.nc", rename={"u100": "wind_aloft"}).open()) == {
        "eastward_wind",
        "wind_aloft",
    }


Change = Callable[[xr.Dataset], xr.Dataset]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda ds: ds.assign_coords(lon=ds.lon + 0.5 * (ds.lon > 4)),
            r"differ in x: point 2 is 5\.0 and 5\.5",
        ),
        (lambda ds: ds.isel(lat=slice(1, None)), "differ in y: 5 and 4 points"),
        (lambda ds: ds.isel(lat=slice(None, None, -1)), r"differ in y: point 0 is 60\.0 and 50\.0"),
        (lambda ds: ds.isel(time=slice(0, 3)), "differ in time: 4 and 3 points"),
        (
            lambda ds: ds.assign_coords(time=ds.time + HOUR * (np.arange(4) == 3)),
            r"differ in time: point 3 is 2020-01-01T03:.* and 2020-01-01T04:",
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


def test_axes_without_attributes_are_recognised_by_their_names(tmp_path: Path) -> None:
    for names in ({}, {"lat": "latitude", "lon": "longitude"}):
        ds = weather("t").drop_attrs().rename(names)
        found = CF(paths=save(ds, tmp_path / f"{len(names)}.nc")).open()
        assert (found.attrs["grid"], found.y.attrs["units"]) == ("latlon", "degrees_north")


def test_axes_that_cannot_be_recognised_are_asked_for(tmp_path: Path) -> None:
    ds = weather("t").drop_attrs().rename(lat="south_north", lon="west_east")
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match="which dimension is y and which x"):
        CF(paths=path).open()
    found = CF(paths=path, axes={"y": "south_north", "x": "west_east"}).open()
    assert found.attrs["grid"] == "cartesian"
    np.testing.assert_array_equal(found.t[0], ds.t)


def test_two_axes_that_could_be_levels_are_asked_about(tmp_path: Path) -> None:
    ds = (
        weather("t")
        .expand_dims(level=[1.0, 2.0])
        .assign(u=weather("u").u.expand_dims(height=[1.0, 2.0, 3.0]))
    )
    ds.height.attrs["standard_name"] = "height"
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc: is level or height its level\? Say axes: {level: height}"):
        CF(paths=path).open()
    found = CF(paths=path, axes={"level": "height"}, variables=("u",)).open()
    np.testing.assert_array_equal(found.level, [1, 2, 3])


def test_a_dimension_without_coordinate_is_named(tmp_path: Path) -> None:
    path = save(weather("t").drop_vars("lon"), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc: its dimension lon has no coordinate; x must have one"):
        CF(paths=path).open()


def test_other_calendars_are_refused_by_name(tmp_path: Path) -> None:
    ds = weather("t")
    ds["time"] = ("time", np.arange(4) + 58, {"units": "days since 2001-01-01", "calendar": "360_day"})
    with pytest.raises(DataError, match=r"a\.nc: .*360_day"):
        CF(paths=save(ds, tmp_path / "a.nc")).open()


def test_static_fields_alone_are_no_dataset(tmp_path: Path) -> None:
    path = save(weather("t").isel(time=0, drop=True), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc and its like: no field depends on time"):
        CF(paths=path).open()


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_zarr_are_read(tmp_path: Path, version: int) -> None:
    ds = weather("t", "u")
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=False)
    found = CF(paths=str(tmp_path / "a.zarr")).open()
    np.testing.assert_array_equal(found.u[0], ds.u)
    np.testing.assert_array_equal(found.time, ds.time)


def test_fields_of_a_zarr_group_do_not_come_in_the_order_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weather("u", "t", "q").to_zarr(tmp_path / "a.zarr", consolidated=False)
    original = Path.iterdir
    for reverse in (False, True):
        monkeypatch.setattr(
            Path, "iterdir", lambda path, back=reverse: iter(sorted(original(path), reverse=back))
        )
        assert list(CF(paths=str(tmp_path / "a.zarr")).open()) == ["q", "t", "u"]


def test_a_folder_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(DamagedFileError, match=r"a\.zarr: cannot be read as zarr"):
        CF(paths=str(tmp_path / "a.zarr")).open()


def test_damage_within_the_data_is_found_when_it_is_read(tmp_path: Path) -> None:
    ds = weather("t")
    ds.t.encoding = {"chunksizes": (1, 5, 6), "fletcher32": True}
    path = Path(save(ds, tmp_path / "a.nc"))
    with h5py.File(path) as file:
        offset = file["t"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 8] ^= 0xFF
    path.write_bytes(content)
    found = CF(paths=str(path)).open()
    np.testing.assert_array_equal(found.t[0, :2], ds.t[:2])
    with pytest.raises(DamagedFileError, match=r"a\.nc: t cannot be read"):
        found.t[0, 2].load()


def test_unsigned_packing_is_refused(tmp_path: Path) -> None:
    ds = weather("t")
    ds["t"] = ds.t.astype("i2").assign_attrs(_Unsigned="true")
    with pytest.raises(DataError, match=r"a\.nc3: t is packed in unsigned integers"):
        CF(paths=save(ds, tmp_path / "a.nc3")).open()


def test_the_boundary_can_be_said(tmp_path: Path) -> None:
    source = CF.model_validate(
        {"paths": save(weather("t"), tmp_path / "a.nc"), "boundary": {"y": "open", "x": "wall"}}
    )
    assert source.open().attrs["boundary_x"] == "wall,wall"
