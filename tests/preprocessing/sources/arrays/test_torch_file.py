"""Files of torch.save give their tensors and never run what they hold."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.sources.arrays.keyed_file import tensor
from pelagos.preprocessing.sources.arrays.torch_file import tensors


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


def test_tensors_with_gradients_and_parameters_are_read(tmp_path: Path) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    torch.save({"x": x, "p": torch.nn.Parameter(torch.ones(2))}, tmp_path / "a.pt")
    held = tensors(tmp_path / "a.pt")
    np.testing.assert_array_equal(held["x"].read((slice(1, 3), 2)), x.detach()[1:3, 2])
    np.testing.assert_array_equal(held["p"].read((slice(None),)), np.ones(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_floats_keep_their_values(tmp_path: Path, dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 24).reshape(4, 6).to(dtype)
    torch.save({"x": x, "turned": x.T}, tmp_path / "a.pt")
    held = tensors(tmp_path / "a.pt")
    assert held["x"].dtype.kind == "f"
    found = held["x"].read((slice(0, 4, 2), np.array([0, 5])))
    assert found.dtype == held["x"].dtype
    np.testing.assert_array_equal(found, x.float()[::2, [0, 5]])
    np.testing.assert_array_equal(held["turned"].read((slice(None), slice(None))), x.float().T)


def test_conjugates_are_those_that_torch_shows(tmp_path: Path) -> None:
    x = torch.tensor([1 + 2j, 3 - 1j])
    torch.save({"x": x.conj(), "y": torch.tensor([4 + 5j]).conj().imag}, tmp_path / "a.pt")
    held = tensors(tmp_path / "a.pt")
    np.testing.assert_array_equal(held["x"].read((slice(None),)), [1 - 2j, 3 + 1j])
    np.testing.assert_array_equal(held["y"].read((slice(None),)), [-5])


def test_tensors_that_are_no_plain_arrays_are_left_out_by_name(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2), "s": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    with collect() as found:
        assert list(tensors(tmp_path / "a.pt")) == ["x"]
    assert "a.pt: s is sparse; save a dense tensor" in str(found.all[0])


def test_files_of_before_1_6_say_how_to_save_them_anew(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"a\.pt: saved by torch before 1\.6.*save it anew: torch\.save\("):
        tensors(tmp_path / "a.pt")


def test_the_advice_of_torch_to_run_what_is_in_a_file_is_not_passed_on(tmp_path: Path) -> None:
    torch.save({"u": torch.zeros(2), "path": Path("a")}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"not read \(pathlib") as error:
        tensors(tmp_path / "a.pt")
    assert "weights_only" not in str(error.value)
