"""Files of numpy.savez give their arrays block by block, and never run what they hold."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.sources.arrays.npz_file import arrays, is_npz

U = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_blocks_are_those_of_the_arrays(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", u=U, turned=np.asfortranarray(U), n=np.array([1, 2]), about="a flow")
    held = arrays(tmp_path / "a.npz")
    assert {key: (one.shape, one.dtype.str) for key, one in held.items()} == {
        "u": ((2, 3, 4), "<f8"),
        "turned": ((2, 3, 4), "<f8"),
        "n": ((2,), "<i8"),
    }
    for key in ("u", "turned"):
        np.testing.assert_array_equal(held[key].read((1, slice(None), np.array([0, 3]))), U[1][:, [0, 3]])


def test_objects_are_left_out_unread(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", u=U, objects=np.array([{}, []], object))
    assert list(arrays(tmp_path / "a.npz")) == ["u"]


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for value in (1.0, 2.0):
        np.savez(path, u=np.full(3, value))
        os.utime(path, ns=(int(value), int(value)))
        np.testing.assert_array_equal(arrays(path)["u"].read((slice(None),)), np.full(3, value))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", u=U)
    assert is_npz(tmp_path / "a.npz")
    os.truncate(tmp_path / "a.npz", 150)
    assert not is_npz(tmp_path / "a.npz")
    with pytest.raises(DamagedFileError, match=r"a\.npz: not a whole file of numpy\.savez"):
        arrays(tmp_path / "a.npz")
    with pytest.raises(MissingFileError, match=r"b\.npz: no such file"):
        arrays(tmp_path / "b.npz")


def test_bytes_that_changed_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, u=U)
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"a\.npz"):
        arrays(path)["u"].read((slice(None),) * 3)
