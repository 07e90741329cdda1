"""Variables of CF files: unpacked as xarray unpacks them, and damage is found when they are read."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import RNG, save, weather


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


@pytest.mark.parametrize("version", [2, 3])
def test_both_versions_of_zarr_are_read(tmp_path: Path, version: int) -> None:
    ds = weather("t", "u")
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=False)
    found = CF(paths=str(tmp_path / "a.zarr")).open()
    np.testing.assert_array_equal(found.u[0], ds.u)
    np.testing.assert_array_equal(found.time, ds.time)


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


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"scale_factor": 0.0}, "t has scale_factor 0, which makes all values one"),
        ({"scale_factor": "tenth"}, "t has scale_factor 'tenth', which is no finite number"),
        ({"add_offset": np.inf}, "t has add_offset .*inf.*, which is no finite number"),
    ],
)
def test_packing_by_what_is_no_number_is_refused(tmp_path: Path, attrs: dict[str, Any], message: str) -> None:
    ds = weather("t")
    ds["t"] = ds.t.astype("i2").assign_attrs(attrs)
    with pytest.raises(DataError, match=rf"a\.nc3: {message}"):
        CF(paths=save(ds, tmp_path / "a.nc3")).open()


def _raw(path: Path, attrs: dict[str, Any], dtype: str, values: Any) -> CF:
    """A netCDF-3 file with `t` as given, marks and all."""
    ds = weather("t").drop_vars("t")
    kept = {"units": "K"} | {key: value for key, value in attrs.items() if key != "_FillValue"}
    ds["t"] = (("time", "lat", "lon"), np.broadcast_to(np.asarray(values, dtype), (4, 5, 6)).copy(), kept)
    if "_FillValue" in attrs:
        ds.t.attrs["_FillValue"] = attrs["_FillValue"]
    ds["time"] = ("time", np.arange(4.0), {"units": "hours since 2020-01-01"})
    ds.to_netcdf(path, engine="scipy" if path.suffix == ".nc3" else "h5netcdf")
    return CF(paths=str(path))


@pytest.mark.parametrize("suffix", ["nc", "nc3"])
@pytest.mark.parametrize(
    ("dtype", "mark"),
    [
        ("i2", np.float32(1e20)),
        ("i2", np.float64(-1e30)),
        ("i2", np.int32(65536)),
        ("i2", np.float64(0.5)),
        ("i1", np.int16(256)),
        ("i4", np.float64(2**32)),
        ("f4", np.float64(1e300)),
    ],
)
def test_a_mark_that_no_value_can_be_marks_nothing(
    tmp_path: Path, suffix: str, dtype: str, mark: Any
) -> None:
    values = np.array([0, 1, 2, 3, 4, 5]) if dtype != "f4" else np.array([0, 1, np.inf, 3, 4, 5])
    source = _raw(tmp_path / f"a.{suffix}", {"missing_value": mark}, dtype, values)
    with collect() as assumed:
        np.testing.assert_array_equal(source.open().t[0, 0, 0], values)
    (one,) = assumed.all
    assert one.code == "missing_values"
    assert "it marks nothing" in one.text


@pytest.mark.parametrize(
    ("dtype", "mark"),
    [
        ("i2", np.int16(-32767)),
        ("i2", np.float64(-9999)),
        ("i4", np.int32(2**31 - 1)),
        ("f4", np.float64(1e20)),
        ("f4", np.float64(-999.9)),
        ("f8", np.float32(-9999)),
    ],
)
def test_a_mark_of_another_type_marks_what_it_is_in_the_type_of_the_values(
    tmp_path: Path, dtype: str, mark: Any
) -> None:
    values = np.array([0, 1, 2, mark, 4, 5], dtype)
    found = _raw(tmp_path / "a.nc3", {"missing_value": mark}, dtype, values).open().t[0, 0, 0]
    assert np.isnan(found).values.tolist() == [False, False, False, True, False, False]


def test_the_largest_64_bit_integer_can_be_a_mark(tmp_path: Path) -> None:
    mark = np.int64(2**63 - 1)
    found = _raw(tmp_path / "a.nc", {"missing_value": mark}, "i8", [0, 1, mark, 3, 4, 5]).open().t[0, 0, 0]
    assert np.isnan(found).values.tolist() == [False, False, True, False, False, False]


def test_the_fill_value_of_zarr_is_no_mark(tmp_path: Path) -> None:
    """Format 2 of zarr-python fills with 0; rain and the equator are full of it."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    rain = RNG.integers(0, 2, size=(4, 5, 6)).astype("f4")
    coordinates = {
        "time": (np.arange(4), {"units": "hours since 2020-01-01"}),
        "lat": (np.linspace(-10, 10, 5), {"units": "degrees_north"}),
        "lon": (np.arange(6) * 2.5, {"units": "degrees_east"}),
    }
    for name, (values, attrs) in coordinates.items():
        made = group.create_array(name, data=values, fill_value=0)
        made.attrs.update(attrs | {"_ARRAY_DIMENSIONS": [name]})
    for name, values in {"rain": rain, "level": (10 * rain).astype("i2")}.items():
        made = group.create_array(name, data=values, fill_value=0)
        made.attrs.update({"_ARRAY_DIMENSIONS": ["time", "lat", "lon"]})
    ds = CF(paths=str(tmp_path / "a.zarr")).open()
    np.testing.assert_array_equal(ds.rain[0], rain)
    np.testing.assert_array_equal(ds.level[0], 10 * rain)
    np.testing.assert_array_equal(ds.y, np.linspace(-10, 10, 5))
    group["rain"].attrs["_FillValue"] = 1.0
    np.testing.assert_array_equal(np.isnan(CF(paths=str(tmp_path / "a.zarr")).open().rain[0]), rain == 1)


@pytest.mark.parametrize("version", [2, 3])
def test_marks_that_xarray_writes_to_zarr_stay_marks(tmp_path: Path, version: int) -> None:
    ds = weather("t")
    ds["t"][0, 0, :2] = np.nan
    ds.t.encoding = {"dtype": "i2", "scale_factor": 0.001, "add_offset": 2.5, "_FillValue": -32767}
    ds.to_zarr(tmp_path / "a.zarr", zarr_format=version, consolidated=False)
    found = CF(paths=str(tmp_path / "a.zarr")).open()
    np.testing.assert_array_equal(np.isnan(found.t[0]), np.isnan(ds.t))
