"""MATLAB files: version 5 through SciPy, version 7.3 (HDF5 with all axes reversed) through h5py."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.sources.arrays.array_reader import (
    ArrayReader,
    ArrayView,
    FileArray,
    Index,
    take_block,
)
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, open_hdf5
from pelagos.preprocessing.sources.file_source import missing

_TYPES = {"double": "f8", "single": "f4", "logical": "b1"} | {
    f"{sign}int{8 * size}": f"{sign[:1] or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4, 8)
}


@dataclass(frozen=True)
class MatArray(FileArray):
    """One array of a version 5 file, which SciPy can only read whole."""

    path: Path

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return np.array(take_block(_whole(self.path, self.key, self.path.stat().st_mtime_ns), index))


@dataclass(frozen=True)
class ReversedAxes(ArrayView):
    """Another reader with its axes in reverse order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.reader.shape[::-1]

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; an axis selected by an integer is dropped, as in NumPy."""
        return self.reader.read(index[::-1]).T


def arrays(path: Path) -> dict[str, ArrayReader]:
    """The numeric arrays of a MATLAB file, by key, with axes in MATLAB's order; reads none.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is truncated or no MATLAB file.
    """
    if not path.is_file():
        raise missing(path)
    with path.open("rb") as file:
        head = file.read(128)
    if b"MATLAB 7.3" in head or head.startswith(b"\x89HDF"):
        return _of_hdf5(path)
    import scipy.io

    try:
        listed = scipy.io.whosmat(path)
    except Exception as error:
        # SciPy raises whatever the damage makes it stumble over: zlib, struct, type and value errors.
        raise _damaged(path, error) from error
    # SciPy also takes version 4, which has no header, and with it almost any bytes.
    if not head.startswith(b"MATLAB 5.0"):
        raise _damaged(path, "it has no header of MATLAB")
    _check_whole(path, "little" if head[126:128] == b"IM" else "big")
    return {
        key: MatArray(path, key, shape, np.dtype(_TYPES[kind]))
        for key, shape, kind in listed
        if kind in _TYPES
    }


def _check_whole(path: Path, order: Literal["little", "big"]) -> None:
    """Raise DamagedFileError unless the elements fill the file: SciPy takes a torn element for the end of the file."""
    position, size = 128, path.stat().st_size
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            tag = file.read(8)
            position += 8 + int.from_bytes(tag[4:8], order)
    if position != size:
        raise _damaged(path, f"it has {size} of at least {position} bytes")


def _of_hdf5(path: Path) -> dict[str, ArrayReader]:
    with open_hdf5(path) as file:
        import h5py

        return {
            str(key): ReversedAxes(Hdf5Dataset.of(item))
            for key, item in file.items()
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiub"
        }


def _damaged(path: Path, reason: object) -> DamagedFileError:
    return DamagedFileError(f"{path}: not a whole MATLAB file ({reason}); download or create it again")


# A source reads one or two arrays (coefficient and solution) in turn, a block at a time.
@lru_cache(maxsize=2)
def _whole(path: Path, key: str, modified: int) -> NDArray[Any]:
    """The whole array; `modified` belongs to the key of the cache, so that a changed file is read anew."""
    import scipy.io

    try:
        return np.asarray(scipy.io.loadmat(path, variable_names=[key])[key])
    except Exception as error:
        raise _damaged(path, error) from error
