"""Chunks of Zarr that are not there: refused where they would be read as values, in both formats and in shards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.sources.absence import absent_values
from pelagos.preprocessing.sources.arrays.zarr_array import ZarrArray, array, open_group
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import weather

VALUES = np.arange(1.0, 25).reshape(4, 6)
EVERYTHING = (slice(None), slice(None))


def _make(path: Path, version: int = 2, fill: Any = 0.0, **more: Any) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == 2 else 3)
    made = group.create_array("u", shape=(4, 6), dtype="f8", chunks=(2, 3), fill_value=fill, **more)
    made[:] = VALUES
    return path


def _open(path: Path) -> ZarrArray:
    return array(path, open_group(path), "u")


@pytest.mark.parametrize(("version", "chunk"), [(2, "1.0"), (3, "c/1/0")])
def test_absent_chunks_are_counted_and_named(tmp_path: Path, version: int, chunk: str) -> None:
    path = _make(tmp_path / "a.zarr", version)
    np.testing.assert_array_equal(_open(path).read(EVERYTHING), VALUES)
    (path / "u" / chunk).unlink()
    with pytest.raises(
        DamagedFileError, match=rf"a\.zarr: u: 1 chunks are absent, the first {chunk}: .*absent: fill"
    ):
        _open(path)


def test_absent_chunks_may_be_missing_or_the_fill_value(tmp_path: Path) -> None:
    path = _make(tmp_path / "a.zarr")
    (path / "u" / "1.0").unlink()
    with collect() as assumed:
        with absent_values("missing"):
            missing = _open(path)
        with absent_values("fill"):
            filled = _open(path)
    assert {one.code for one in assumed.all} == {"chunks_absent"}
    expected = VALUES.copy()
    expected[2:, :3] = np.nan
    np.testing.assert_array_equal(missing.read(EVERYTHING), expected)
    np.testing.assert_array_equal(missing.read((3, np.array([0, 2, 4]))), expected[3, [0, 2, 4]])
    np.testing.assert_array_equal(filled.read(EVERYTHING), np.nan_to_num(expected))


@pytest.mark.parametrize("version", [2, 3])
def test_chunks_that_stand_for_missing_values_are_missing(tmp_path: Path, version: int) -> None:
    path = _make(tmp_path / "a.zarr", version, fill=np.nan)
    (path / "u" / ("1.0" if version == 2 else "c/1/0")).unlink()
    with collect() as assumed:
        found = _open(path).read(EVERYTHING)
    assert np.isnan(found[2:, :3]).all()
    assert [one.code for one in assumed.all] == ["chunks_absent"]


def test_what_a_shard_leaves_out_is_named(tmp_path: Path) -> None:
    path = _make(tmp_path / "a.zarr", 3, shards=(4, 6))
    _open(path)
    open_group(path)
    made = zarr.open_group(path, mode="r+")["u"]
    assert isinstance(made, zarr.Array)
    made[2:, 3:] = 0.0  # a chunk of fill values is not kept
    with pytest.raises(DamagedFileError, match=r"the first c/0/0, chunk \(1, 1\) of the shard"):
        _open(path)
    with absent_values("missing"), pytest.raises(DataError, match="cannot be marked as missing"):
        _open(path)


def test_parts_of_shards_beyond_the_array_are_not_absent(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("u", shape=(3, 6), dtype="f8", chunks=(1, 6), shards=(2, 6), fill_value=0.0)[:] = (
        VALUES[:3]
    )
    np.testing.assert_array_equal(_open(tmp_path / "a.zarr").read(EVERYTHING), VALUES[:3])


def test_cf_stores_are_checked_as_well(tmp_path: Path) -> None:
    ds = weather("t")
    ds.t.encoding = {"chunks": (1, 5, 6), "fill_value": 0.0}
    ds.to_zarr(tmp_path / "a.zarr", consolidated=False)
    np.testing.assert_array_equal(CF(paths=str(tmp_path / "a.zarr")).open().t[0], ds.t)
    (tmp_path / "a.zarr/t/c/2/0/0").unlink()
    with pytest.raises(DamagedFileError, match=r"a\.zarr: t: 1 chunks are absent, the first c/2/0/0"):
        CF(paths=str(tmp_path / "a.zarr")).open()
    found = CF(paths=str(tmp_path / "a.zarr"), absent="missing").open().t[0]
    np.testing.assert_array_equal(np.isnan(found).all(["y", "x"]), [False, False, True, False])
