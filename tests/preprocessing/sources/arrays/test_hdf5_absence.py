"""Values of HDF5 that were never written: chunks, virtual sources, external files and links."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.sources.absence import absent_values, holes
from pelagos.preprocessing.sources.arrays.array_reader import Index, take_block
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, member, open_hdf5
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.list_archive import list_archive
from tests.preprocessing.sources.formats.weather_archive import save, weather

VALUES = np.arange(1, 1 + 6 * 4 * 5, dtype="f4").reshape(6, 4, 5)
EVERYTHING = (slice(None), slice(None), slice(None))


def _open(path: Path, key: str = "a") -> Hdf5Dataset:
    with open_hdf5(path) as file:
        return Hdf5Dataset.of(member(file, key))


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """Chunks of two rows and three columns, of which those of rows 2 and 3 were never written."""
    with h5py.File(tmp_path / "half.h5", "w") as file:
        made = file.create_dataset("a", VALUES.shape, "f4", chunks=(2, 4, 3))
        made[:2], made[4:] = VALUES[:2], VALUES[4:]
        file.create_dataset("whole", data=VALUES, chunks=(2, 4, 3))
        file.create_dataset("i", VALUES.shape, "i2", chunks=(2, 4, 3))
    return tmp_path / "half.h5"


def test_chunks_that_were_never_written_are_counted_and_named(half: Path) -> None:
    with pytest.raises(
        DamagedFileError, match=r"half\.h5: /a: 2 of 6 chunks were never written, the first at \(2, 0, 0\)"
    ):
        _open(half)
    np.testing.assert_array_equal(_open(half, "whole").read(EVERYTHING), VALUES)


def test_chunks_may_be_missing_or_the_fill_value(half: Path) -> None:
    with collect() as assumed:
        with absent_values("missing"):
            missing = _open(half)
        with absent_values("fill"):
            filled = _open(half)
    assert {one.code for one in assumed.all} == {"chunks_absent"}
    expected = VALUES.copy()
    expected[2:4] = np.nan
    np.testing.assert_array_equal(missing.read(EVERYTHING), expected)
    indices: list[Index] = [
        (3, slice(1, 3), np.array([0, 2, 4])),
        (slice(1, 5), 2, slice(None)),
        (slice(0, 0), slice(None), 1),
    ]
    for index in indices:
        np.testing.assert_array_equal(missing.read(index), take_block(expected, index))
    np.testing.assert_array_equal(filled.read(EVERYTHING), np.nan_to_num(expected))
    with (
        absent_values("missing"),
        pytest.raises(DataError, match="values of int16 cannot be marked as missing"),
    ):
        _open(half, "i")


def test_chunks_whose_fill_value_is_missing_are_missing(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (4, 4, 5), "f4", chunks=(2, 4, 5), fillvalue=np.nan)[:2] = VALUES[:2]
    with collect() as assumed:
        found = _open(tmp_path / "a.h5").read(EVERYTHING)
    assert np.isnan(found[2:]).all()
    assert len(assumed.all) == 1


def test_an_array_without_any_value_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (4, 5), "f4")
        file.create_dataset("none", (0, 5), "f4")
    with pytest.raises(DamagedFileError, match="none of its 20 values were ever written"):
        _open(tmp_path / "a.h5")
    assert _open(tmp_path / "a.h5", "none").shape == (0, 5)


def _virtual(folder: Path, *, gap: bool = False) -> Path:
    layout = h5py.VirtualLayout((6, 4, 5), "f4")
    for part in range(2 if gap else 3):
        with h5py.File(folder / f"part{part}.h5", "w") as file:
            file["a"] = VALUES[2 * part : 2 * part + 2]
        layout[2 * part : 2 * part + 2] = h5py.VirtualSource(f"part{part}.h5", "a", (2, 4, 5))
    with h5py.File(folder / "all.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    return folder / "all.h5"


def test_a_virtual_array_is_read_where_all_its_sources_are(tmp_path: Path) -> None:
    np.testing.assert_array_equal(_open(_virtual(tmp_path)).read(EVERYTHING), VALUES)


def test_a_missing_virtual_source_is_named(tmp_path: Path) -> None:
    path = _virtual(tmp_path)
    (tmp_path / "part1.h5").unlink()
    with pytest.raises(MissingFileError, match=r"all\.h5: /a: its virtual source part1\.h5 is not there"):
        _open(path)
    with collect() as assumed, absent_values("fill"):
        assert _open(path).read((2, 0, 0)) == 0
    assert len(assumed.all) == 1


def test_a_virtual_source_of_another_shape_or_name_is_named(tmp_path: Path) -> None:
    path = _virtual(tmp_path)
    with h5py.File(tmp_path / "part2.h5", "w") as file:
        file["a"] = VALUES[:1]
    with pytest.raises(DamagedFileError, match=r"part2\.h5: a has shape \(1, 4, 5\), and 40 values"):
        _open(path)
    with h5py.File(tmp_path / "part2.h5", "w") as file:
        file["b"] = VALUES[:2]
    with pytest.raises(MissingFileError, match=r"part2\.h5 has no a"):
        _open(path)


def test_what_no_source_is_mapped_to_and_what_a_source_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="only 80 of its 120 values are mapped"):
        _open(_virtual(tmp_path, gap=True))
    path = _virtual(tmp_path)
    with h5py.File(tmp_path / "part0.h5", "w") as file:
        file.create_dataset("a", (2, 4, 5), "f4", chunks=(1, 4, 5))[0] = VALUES[0]
    with pytest.raises(DamagedFileError, match=r"part0\.h5: /a: 1 of 2 chunks were never written"):
        _open(path)


def test_external_files_and_links_that_are_gone_are_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw.bin"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", data=VALUES, external=[(str(raw), 0, VALUES.nbytes)])
        file["linked"] = h5py.ExternalLink("b.h5", "/b")
        file["soft"] = h5py.SoftLink("/nowhere")
    np.testing.assert_array_equal(_open(tmp_path / "a.h5").read(EVERYTHING), VALUES)
    os.truncate(raw, 40)
    with pytest.raises(DamagedFileError, match=r"raw\.bin has 40 of the 480 bytes"):
        _open(tmp_path / "a.h5")
    raw.unlink()
    with pytest.raises(
        MissingFileError, match=r"the external file .*raw\.bin that holds its values is not there"
    ):
        _open(tmp_path / "a.h5")
    with pytest.raises(
        MissingFileError, match=r"a\.h5: 'linked' is a link to /b in b\.h5, which is not there"
    ):
        _open(tmp_path / "a.h5", "linked")
    with pytest.raises(DataError, match=r"'soft' is a link to /nowhere, which the file does not have"):
        _open(tmp_path / "a.h5", "soft")
    with pytest.raises(MissingFileError, match="'linked' is a link"):
        list_archive(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["b"] = VALUES
    np.testing.assert_array_equal(_open(tmp_path / "a.h5", "linked").read(EVERYTHING), VALUES)


def test_holes_of_a_download_are_found_in_the_arrays_that_they_hit(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for key in ("a", "b"):
            file.create_dataset(key, data=np.ones((4, 8192)), chunks=(1, 8192))
            file.create_dataset(f"whole_{key}", data=np.ones(8192))
        chunk = file["a"].id.get_chunk_info(2).byte_offset
        whole = file["whole_b"].id.get_offset()
    content = path.read_bytes()
    path.unlink()
    with path.open("wb") as out:
        for start, stop in sorted([(chunk, chunk + 32768), (whole, whole + 32768)]):
            out.write(content[out.tell() : start])
            out.seek(stop)
        out.write(content[out.tell() :])
    if not holes(path):
        pytest.skip("this file system keeps no holes")
    for key in ("b", "whole_a"):
        assert _open(path, key).read((0,) if key == "whole_a" else (0, 0)) == 1
    for key in ("a", "whole_b"):
        with pytest.raises(
            DamagedFileError, match=rf"a\.h5: /{key}: bytes \d+ to \d+ of the file were never written"
        ):
            _open(path, key)


def _partial(path: Path, **fill: float) -> xr.Dataset:
    """A netCDF-4 file of which the last two times were never written."""
    ds = weather("t")
    ds.t.encoding = {"chunksizes": (1, 5, 6), **fill}
    save(ds.isel(time=slice(0, 2)), path)
    with h5py.File(path, "r+") as file:
        values, attrs = file["t"][:], dict(file["t"].attrs)
        like = file["t"].id.get_create_plist()
        del file["t"]
        space = h5py.h5s.create_simple((4, 5, 6))
        made = h5py.Dataset(h5py.h5d.create(file.id, b"t", h5py.h5t.IEEE_F32LE, space, like))
        made[:2] = values
        for key in ("units", "_FillValue"):
            if key in attrs:
                made.attrs[key] = attrs[key]
        del file["time"]
        file["time"] = np.arange(4)
        file["time"].attrs["units"] = "hours since 2020-01-01"
        file["time"].make_scale("time")
        for axis, name in enumerate(("time", "lat", "lon")):
            made.dims[axis].attach_scale(file[name])
    return ds


def test_chunks_of_netcdf_are_asked_about_unless_they_are_missing_values(tmp_path: Path) -> None:
    ds = _partial(tmp_path / "a.nc", _FillValue=None)  # type: ignore[arg-type]
    with pytest.raises(
        DamagedFileError, match=r"a\.nc: /t: 2 of 4 chunks were never written, the first at \(2, 0, 0\)"
    ):
        CF(paths=str(tmp_path / "a.nc")).open()
    found = CF(paths=str(tmp_path / "a.nc"), absent="missing").open()
    np.testing.assert_array_equal(found.t[0, :2], ds.t[:2])
    assert np.isnan(found.t[0, 2:]).all()
    _partial(tmp_path / "b.nc", _FillValue=-999.0)
    with collect() as assumed:
        found = CF(paths=str(tmp_path / "b.nc")).open()
    assert np.isnan(found.t[0, 2:]).all()
    assert "chunks_absent" in [one.code for one in assumed.all]
