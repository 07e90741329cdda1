"""Files of torch.save give their tensors and never run what they hold."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.sources.arrays.torch_file import tensor, tensors


class Trap:
    """Whatever unpickles this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_blocks_are_those_of_the_tensors(tmp_path: Path) -> None:
    u = torch.arange(24.0).reshape(2, 3, 4)
    torch.save({"u": u, "about": "a flow", "mask": u > 3}, tmp_path / "a.pt")
    held = tensors(tmp_path / "a.pt")
    assert {key: (one.shape, one.dtype.str) for key, one in held.items()} == {
        "u": ((2, 3, 4), "<f4"),
        "mask": ((2, 3, 4), "|b1"),
    }
    np.testing.assert_array_equal(held["u"].read((1, slice(None), np.array([0, 3]))), u[1][:, [0, 3]])
    with pytest.raises(DataError, match=r"a\.pt: no tensor 'v'; it holds u, mask"):
        tensor(tmp_path / "a.pt", held, "v")


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"u": torch.zeros(2), "trap": Trap(tmp_path / "sprung")}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a\.pt: holds more than tensors, which is not read"):
        tensors(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "single.pt")
    with pytest.raises(
        DataError, match=r"single\.pt: holds a Tensor; a dictionary of tensors would be right"
    ):
        tensors(tmp_path / "single.pt")
    os.truncate(tmp_path / "single.pt", 500)
    with pytest.raises(DamagedFileError, match=r"single\.pt: not a whole file of torch\.save"):
        tensors(tmp_path / "single.pt")
    with pytest.raises(MissingFileError, match=r"singel\.pt: no such file; did you mean single\.pt"):
        tensors(tmp_path / "singel.pt")
