"""Files of `numpy.savez`: zip files of arrays, with or without compression."""

import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index, take_block
from pelagos.preprocessing.sources.file_source import missing
from pelagos.preprocessing.sources.left_out_arrays import say_no_numbers

_NUMBERS = "fiubc"


@dataclass(frozen=True)
class NpzArray(FileArray):
    """One array of an `.npz` file, which NumPy can only read whole."""

    path: Path

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return np.array(take_block(_whole(self.path, self.key, self.path.stat().st_mtime_ns), index))


def arrays(path: Path) -> dict[str, NpzArray]:
    """The numeric arrays of an `.npz` file, by key; reads their headers only.

    Arrays of Python objects are left out: they are pickles, which could run code.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is truncated or no file of numpy.savez.
    """
    if not path.is_file():
        raise missing(path)
    found = {}
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.namelist():
                if member.endswith(".npy"):
                    with file.open(member) as opened:
                        shape, dtype = _header(opened)
                    key = member.removesuffix(".npy")
                    found[key] = NpzArray(path, key, shape, dtype)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise _damaged(path) from error
    say_no_numbers(
        path, {key: str(array.dtype) for key, array in found.items() if array.dtype.kind not in _NUMBERS}
    )
    return {key: array for key, array in found.items() if array.dtype.kind in _NUMBERS}


def is_npz(path: Path) -> bool:
    """Whether a file is a whole zip file that holds arrays of NumPy."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return any(name.endswith(".npy") for name in file.namelist())


def _header(opened: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(opened)
    if version not in read:
        raise ValueError(f"an array of version {version}")
    shape, _, dtype = read[version](opened)
    return shape, dtype


def _damaged(path: Path) -> DamagedFileError:
    return DamagedFileError(f"{path}: not a whole file of numpy.savez; download or create it again")


# As of MATLAB files: one or two arrays are read in turn, a block at a time.
@lru_cache(maxsize=2)
def _whole(path: Path, key: str, modified: int) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as held:
            return np.asarray(held[key])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path) from error
