"""Keyed files: dictionaries of arrays, as torch, NumPy and MATLAB save them, told apart by their first bytes."""

from collections.abc import Mapping
from pathlib import Path

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.arrays import npz_file, torch_file
from pelagos.preprocessing.sources.arrays.npz_file import NpzArray
from pelagos.preprocessing.sources.arrays.torch_file import TorchTensor
from pelagos.preprocessing.sources.file_source import missing

KeyedArray = TorchTensor | NpzArray


def is_zip(path: Path) -> bool:
    """Whether a file begins as the zip files of torch and NumPy do, or as torch's before version 1.6."""
    if not path.is_file():
        raise missing(path)
    with path.open("rb") as file:
        return file.read(16).startswith((b"PK\x03\x04", b"PK\x05\x06", torch_file.BEFORE_1_6))


def tensors(path: Path) -> Mapping[str, KeyedArray]:
    """The arrays of a file of `torch.save` or `numpy.savez`, by key; reads none.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is truncated or of another format.
        DataError: if a torch file holds anything but tensors in a dictionary, or is of before version 1.6.
    """
    if not path.is_file():
        raise missing(path)
    return npz_file.arrays(path) if npz_file.is_npz(path) else torch_file.tensors(path)


def tensor(path: Path, held: Mapping[str, KeyedArray], key: str) -> KeyedArray:
    """The array of that key; raises DataError, which lists what there is, if there is none."""
    if key not in held:
        raise DataError(f"{path}: no tensor '{key}'; it holds {', '.join(held) or 'nothing'}")
    return held[key]
