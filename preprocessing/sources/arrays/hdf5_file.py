"""HDF5 files: their datasets as array readers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index
from pelagos.preprocessing.sources.file_source import missing


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The h5py file, read-only.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is truncated or no HDF5 file.
    """
    if not path.is_file():
        raise missing(path)
    try:
        file = h5py.File(path, "r")
    except PermissionError:  # an OSError as well, but the file may be whole
        raise
    except OSError as error:
        raise DamagedFileError(
            f"{path}: not a whole HDF5 file ({error}); download or create it again"
        ) from error
    with file:
        yield file


def member(file: Any, key: str) -> Any:
    """The dataset or group `key` of an open h5py file or group.

    Raises:
        DataError: if there is none; the message lists what there is.
    """
    if key in file:
        return file[key]
    listed = list(file)
    found = ", ".join(listed[:20]) + (", ..." if len(listed) > 20 else "")
    raise DataError(f"{file.file.filename}: no '{key}' in '{file.name}'; it holds {found or 'nothing'}")


@dataclass(frozen=True)
class Hdf5Dataset(FileArray):
    """One dataset of an HDF5 file, opened by path at each access."""

    path: Path

    @classmethod
    def of(cls, dataset: Any) -> "Hdf5Dataset":
        """The reader of an open h5py dataset.

        Raises:
            DataError: if it is a group.
        """
        path = Path(dataset.file.filename)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{path}: '{dataset.name}' is a group where an array was expected")
        return cls(path, dataset.name, dataset.shape, dataset.dtype)

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; raises DamagedFileError if its bytes cannot be read."""
        with open_hdf5(self.path) as file:
            try:
                return np.asarray(member(file, self.key)[index])
            except OSError as error:
                raise DamagedFileError(f"{self.name}: cannot be read ({error})") from error
