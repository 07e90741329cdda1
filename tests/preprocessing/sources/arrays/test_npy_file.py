"""Files of numpy.save are mapped, and neither objects nor torn files are read."""

import os
from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.sources.arrays.npy_file import NpyArray


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_are_those_of_the_array(tmp_path: Path, order: str) -> None:
    values = np.asarray(np.arange(24, dtype="f4").reshape(2, 3, 4), order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", values)
    reader = NpyArray.of(tmp_path / "a.npy")
    assert (reader.shape, reader.dtype.str, reader.name) == ((2, 3, 4), "<f4", str(tmp_path / "a.npy"))
    block = reader.read((1, slice(None), np.array([0, 3])))
    np.testing.assert_array_equal(block, values[1][:, [0, 3]])
    block[...] = 0
    np.testing.assert_array_equal(reader.read((slice(None),) * 3), values)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy: holds Python objects, which are not read"):
        NpyArray.of(tmp_path / "objects.npy")
    np.save(tmp_path / "torn.npy", np.zeros(100))
    os.truncate(tmp_path / "torn.npy", 300)
    with pytest.raises(
        DamagedFileError, match=r"torn\.npy: not a whole \.npy file \(it has 300 of 928 bytes"
    ):
        NpyArray.of(tmp_path / "torn.npy")
    with pytest.raises(MissingFileError, match=r"turn\.npy: no such file; did you mean torn\.npy"):
        NpyArray.of(tmp_path / "turn.npy")
