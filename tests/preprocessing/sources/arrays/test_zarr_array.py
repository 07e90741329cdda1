"""Arrays of Zarr groups: of both formats, with torn chunks found and what is no group named."""

import re
import shutil
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.sources.arrays.zarr_array import array, open_group

U = np.random.default_rng(0).normal(size=(4, 6))


def save(path: Path, version: int = 2, **attrs: int) -> Path:
    """`u` in chunks of two rows, compressed by Blosc."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == 2 else 3, attributes=dict(attrs))
    blosc = numcodecs.Blosc("lz4") if version == 2 else BloscCodec(cname="lz4")
    group.create_array("u", data=U, chunks=(2, 6), compressors=blosc)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_blocks_are_those_of_the_array(tmp_path: Path, version: int) -> None:
    path = save(tmp_path / "a.zarr", version)
    reader = array(path, open_group(path), "u")
    assert (reader.shape, reader.dtype.str, reader.name) == ((4, 6), "<f8", f"{path}: u")
    np.testing.assert_array_equal(reader.read((np.array([0, 3]), slice(1, None, 2))), U[[0, 3], 1::2])
    np.testing.assert_array_equal(reader.read((2, slice(None))), U[2])


@pytest.mark.parametrize(("version", "chunk"), [(2, "u/1.0"), (3, "u/c/1/0")])
def test_a_torn_chunk_is_found_when_it_is_needed(tmp_path: Path, version: int, chunk: str) -> None:
    path = save(tmp_path / "a.zarr", version)
    reader = array(path, open_group(path), "u")
    content = (path / chunk).read_bytes()
    (path / chunk).write_bytes(content[: len(content) // 2])
    np.testing.assert_array_equal(reader.read((slice(0, 2), slice(None))), U[:2])
    with pytest.raises(DamagedFileError, match=rf"{chunk}: has {len(content) // 2} of {len(content)} bytes"):
        reader.read((slice(None), 0))


def test_what_is_no_group_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr")
    with pytest.raises(DataError, match=r"a\.zarr: no array 'v'; it holds u"):
        array(path, open_group(path), "v")
    with pytest.raises(DataError, match=r"u: an array; name the Zarr group that it belongs to, .*a\.zarr"):
        open_group(path / "u")
    with pytest.raises(MissingFileError, match=r"b\.zarr: no such file; did you mean a\.zarr"):
        open_group(tmp_path / "b.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DamagedFileError, match=r"empty\.zarr: cannot be read as zarr"):
        open_group(tmp_path / "empty.zarr")
    with pytest.raises(DataError, match=r"store\.zarr: a store of Pelagos: train on it as data\.0\.path="):
        open_group(save(tmp_path / "store.zarr", 3, pelagos=1))


@pytest.mark.parametrize("version", [2, 3])
def test_torn_metadata_are_named_wherever_they_are(tmp_path: Path, version: int) -> None:
    whole = save(tmp_path / "a.zarr", version)
    found = [file.relative_to(whole) for file in whole.rglob("*") if file.name[:2] in (".z", "za")]
    assert len(found) > 1
    for number, name in enumerate(found):
        torn = shutil.copytree(whole, tmp_path / f"{number}.zarr") / name
        torn.write_bytes(torn.read_bytes()[:-3])
        with pytest.raises(
            DamagedFileError, match=rf"{re.escape(str(torn))}: \d+ bytes of metadata that are no whole"
        ):
            open_group(tmp_path / f"{number}.zarr")


@pytest.mark.parametrize("length", [0, 7])
def test_an_empty_chunk_is_torn(tmp_path: Path, length: int) -> None:
    path = save(tmp_path / "a.zarr")
    (path / "u" / "1.0").write_bytes(bytes(length))
    with pytest.raises(DamagedFileError, match=rf"1\.0: has {length} bytes, and is a torn chunk"):
        array(path, open_group(path), "u").read((slice(2, 4), slice(None)))


def test_a_group_without_metadata_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.zarr")
    shutil.copytree(path / "u", path / "v")
    for name in (".zgroup", ".zattrs"):
        (path / name).unlink(missing_ok=True)
    with pytest.raises(DamagedFileError, match=r"a\.zarr is no Zarr group: its \.zgroup"):
        open_group(path / "u")
