"""Dictionaries of arrays are the same from torch and from NumPy, told apart by content and not by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.sources.arrays.keyed_file import is_zip, tensors

U = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize("name", ["a.pt", "a.npz", "a.data"])
def test_files_of_both_kinds_are_told_by_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save({"u": torch.from_numpy(U)}, path)
    np.testing.assert_array_equal(tensors(path)["u"].read((slice(None), 1)), U[:, 1])
    with path.open("wb") as file:
        np.savez(file, u=U)
    assert is_zip(path)
    np.testing.assert_array_equal(tensors(path)["u"].read((slice(None), 1)), U[:, 1])


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"nothing of the kind")
    assert not is_zip(tmp_path / "a.pt")
    with pytest.raises(DamagedFileError, match=r"a\.pt: not a whole file"):
        tensors(tmp_path / "a.pt")
    with pytest.raises(MissingFileError, match=r"b\.pt: no such file"):
        tensors(tmp_path / "b.pt")
