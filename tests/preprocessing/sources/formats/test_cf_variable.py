"""Variables of CF files: unpacked as xarray unpacks them, and damage is found when they are read."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

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
