"""Absence: what was never written is named in every container, and never read as zeros without a word."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.sources.absence import absent_values, holes, refuse_holes, tell_absent
from pelagos.preprocessing.sources.arrays.mat_file import arrays
from pelagos.preprocessing.sources.arrays.npy_file import NpyArray
from pelagos.preprocessing.sources.arrays.torch_file import tensors
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import weather

VALUES = np.arange(1.0, 1 + 8 * 4096).reshape(8, 4096)


def _punch(path: Path, start: int, stop: int) -> None:
    """Write a file anew without the bytes from `start` to `stop`, as a download does that got the end first."""
    content = path.read_bytes()
    path.unlink()
    with path.open("wb") as file:
        file.write(content[:start])
        file.seek(stop)
        file.write(content[stop:])
        file.flush()
        os.fsync(file.fileno())
    if not holes(path):
        pytest.skip("this file system keeps no holes")


def test_holes_are_found_and_whole_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(100_000))
    assert holes(path) == []
    refuse_holes(path)
    _punch(path, 20_000, 80_000)
    ((start, stop),) = holes(path)
    assert 20_000 <= start < 24_576
    assert 75_000 < stop <= 80_000


def _npy(path: Path) -> Callable[[], object]:
    np.save(path, VALUES)
    return lambda: NpyArray.of(path)


def _mat(path: Path) -> Callable[[], object]:
    scipy.io.savemat(path, {"a": VALUES})
    return lambda: arrays(path)


def _torch(path: Path) -> Callable[[], object]:
    torch.save({"a": torch.tensor(VALUES)}, path)
    return lambda: tensors(path)


def _netcdf3(path: Path) -> Callable[[], object]:
    weather("t", times=400).to_netcdf(path, engine="scipy")
    return lambda: CF(paths=str(path)).open()


@pytest.mark.parametrize(
    ("suffix", "make"), [("npy", _npy), ("mat", _mat), ("pt", _torch), ("nc3", _netcdf3)]
)
def test_the_holes_of_a_download_are_refused(
    tmp_path: Path, suffix: str, make: Callable[[Path], Callable[[], object]]
) -> None:
    path = tmp_path / f"a.{suffix}"
    opening = make(path)
    opening()
    _punch(path, 8192, 24576)
    with pytest.raises(
        DamagedFileError, match=rf"a\.{suffix}: \d+ of \d+ bytes were never written .*absent: fill"
    ):
        opening()


def test_holes_may_be_allowed_and_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    opening = _npy(path)
    _punch(path, 8192, 24576)
    with collect() as assumed, absent_values("fill"):
        opening()
    assert [one.code for one in assumed.all] == ["chunks_absent"]
    with absent_values("missing"), pytest.raises(DataError, match="cannot be marked as missing"):
        opening()


def test_a_missing_file_is_told_from_missing_bytes() -> None:
    with pytest.raises(MissingFileError, match=r"a\.h5: b: not there; complete the archive"):
        tell_absent("a.h5: b", "not there", missing_file=True)
    with absent_values("missing"):
        assert tell_absent("a.h5: b", "not there", np.dtype("f4")) == "missing"
    with absent_values("missing"), pytest.raises(DataError, match="values of int16 cannot be marked"):
        tell_absent("a.h5: b", "not there", np.dtype("i2"))
