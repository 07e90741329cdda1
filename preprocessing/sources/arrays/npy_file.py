"""Files of `numpy.save`, mapped into memory."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.sources.absence import refuse_holes
from pelagos.preprocessing.sources.arrays.array_reader import Index, take_block
from pelagos.preprocessing.sources.file_source import missing


@dataclass(frozen=True)
class NpyArray:
    """The array of an `.npy` file, mapped into memory at each access."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, path: Path) -> "NpyArray":
        """The reader of a file.

        Raises:
            MissingFileError: if there is none.
            DamagedFileError: if it is truncated or of another format.
            DataError: if it holds Python objects, which could run code when loaded.
        """
        mapped = _map(path)
        refuse_holes(path)
        return cls(path, mapped.shape, mapped.dtype)

    @property
    def name(self) -> str:
        """The file, for messages."""
        return str(self.path)

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return np.array(take_block(_map(self.path), index))


def _map(path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise missing(path)
    try:
        # Object arrays are pickles, which could run code: NumPy refuses them here.
        with np.errstate(
            over="ignore"
        ):  # of a claimed shape whose size is no number, which is refused all the same
            mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError, OverflowError, MemoryError) as error:
        if "Python objects" in str(error):
            raise DataError(
                f"{path}: holds Python objects, which are not read; save plain numbers"
            ) from error
        raise DamagedFileError(
            f"{path}: not a whole .npy file ({_why(path)}); download or create it again"
        ) from error
    return mapped


def _why(path: Path) -> str:
    """What is wrong with a file that NumPy cannot map."""
    held = path.stat().st_size
    try:
        with path.open("rb") as file:
            read = (
                np.lib.format.read_array_header_1_0
                if np.lib.format.read_magic(file) == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
            needed = file.tell() + prod(shape) * dtype.itemsize
    except (OSError, ValueError):
        return f"it has {held} bytes, and no whole header of numpy.save"
    return f"it has {held} of {needed} bytes for shape {shape} of {dtype}"
