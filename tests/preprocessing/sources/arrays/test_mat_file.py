"""MATLAB files of both kinds give the same arrays, axes in MATLAB's order."""

import os
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest
import scipy.io

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.sources.arrays.mat_file import arrays

U = np.arange(24.0).reshape(2, 3, 4)


def save(path: Path, version: Literal["5", "7.3"]) -> Path:
    """`u` as MATLAB saves it, beside a text."""
    if version == "5":
        scipy.io.savemat(path, {"u": U, "about": "a flow"})
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        file["u"] = U.T
        file["about"] = np.frombuffer(b"a flow", "S1")
    with path.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file".ljust(128))
    return path


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_axes_are_those_of_matlab(tmp_path: Path, version: Literal["5", "7.3"]) -> None:
    held = arrays(save(tmp_path / "a.mat", version))
    assert list(held) == ["u"]
    assert (held["u"].shape, held["u"].dtype.str) == (U.shape, "<f8")
    np.testing.assert_array_equal(held["u"].read((slice(None), 1, slice(0, 4, 2))), U[:, 1, ::2])
    assert held["u"].name.endswith("u")


@pytest.mark.parametrize("version", ["5", "7.3"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, version: Literal["5", "7.3"], share: float) -> None:
    path = save(tmp_path / "a.mat", version)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(DamagedFileError, match=r"a\.mat: not a whole"):
        arrays(path)
    with pytest.raises(MissingFileError, match=r"b\.mat: no such file; did you mean a\.mat"):
        arrays(tmp_path / "b.mat")


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    reader = arrays(save(tmp_path / "a.mat", "5"))["u"]
    np.testing.assert_array_equal(reader.read((0, 0, slice(None))), U[0, 0])
    scipy.io.savemat(tmp_path / "a.mat", {"u": -U})
    os.utime(tmp_path / "a.mat", ns=(1, 1))
    np.testing.assert_array_equal(reader.read((0, 0, slice(None))), -U[0, 0])
