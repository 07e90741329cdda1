"""MATLAB files: version 5 through SciPy, version 7.3 (HDF5 with all axes reversed) through h5py.

Python writes HDF5 files that are called `.mat` as well; their axes are not reversed, and only content can tell.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.sources.absence import refuse_holes
from pelagos.preprocessing.sources.arrays.array_reader import (
    ArrayReader,
    ArrayView,
    FileArray,
    Index,
    take_block,
)
from pelagos.preprocessing.sources.arrays.complex_parts import is_pair, of_pairs
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, open_hdf5
from pelagos.preprocessing.sources.file_source import missing
from pelagos.preprocessing.sources.left_out_arrays import say_no_numbers

AxisOrder = Literal["matlab", "python"]
"""Whether the arrays of an HDF5 file have their axes in reverse, as MATLAB writes them, or as they are."""

_HEADER = b"MATLAB 7.3"
_COMPRESSED, _COMPLEX = 15, 0x08  # a type of elements and a flag of arrays, by the MAT-File format, level 5
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


def _head(path: Path) -> bytes:
    """The first 128 bytes of a file: the header that MATLAB writes, in version 7.3 before the HDF5 file itself."""
    if not path.is_file():
        raise missing(path)
    with path.open("rb") as file:
        return file.read(128)


def written_by_matlab(path: Path) -> bool:
    """Whether a file shows that MATLAB wrote it: by its header, or by the classes that it notes at its arrays.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is truncated or no MATLAB file.
    """
    head = _head(path)
    if not head.startswith(b"\x89HDF"):
        return True
    with open_hdf5(path) as opened:
        return any("MATLAB_class" in item.attrs for item in opened.values())


def written_by_scipy(path: Path) -> bool:
    """Whether SciPy wrote a file of version 5, by the header, in which MATLAB sets a comma after its name."""
    return _head(path).startswith(b"MATLAB 5.0 MAT-file Platform")


def arrays(path: Path, order: AxisOrder = "matlab") -> dict[str, ArrayReader]:
    """The numeric arrays of a MATLAB file, by key, with axes in MATLAB's order; reads none.

    Args:
        path: of the file.
        order: how the axes lie in an HDF5 file; those of version 5 are always in MATLAB's order.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is truncated or no MATLAB file.
    """
    head = _head(path)
    if _HEADER in head or head.startswith(b"\x89HDF"):
        return _of_hdf5(path, order)
    import scipy.io

    refuse_holes(path)
    try:
        listed = scipy.io.whosmat(path)
    except Exception as error:
        # SciPy raises whatever the damage makes it stumble over: zlib, struct, type and value errors.
        raise _damaged(path, _why(path)) from error
    # SciPy also takes version 4, which has no header, and with it almost any bytes.
    if not head.startswith(b"MATLAB 5.0"):
        raise _damaged(path, "it has no header of MATLAB")
    say_no_numbers(path, {key: kind for key, _, kind in listed if kind not in _TYPES})
    complex_ones = list(_are_complex(path, "little" if head[126:128] == b"IM" else "big"))
    return {
        key: MatArray(path, key, shape, _type(kind, is_complex))
        for (key, shape, kind), is_complex in zip(listed, complex_ones, strict=True)
        if kind in _TYPES
    }


def _type(kind: str, is_complex: bool) -> np.dtype[Any]:
    """SciPy lists complex arrays by the type of their parts."""
    dtype = np.dtype(_TYPES[kind])
    return np.result_type(dtype, np.complex64) if is_complex else dtype


def _are_complex(path: Path, order: Literal["little", "big"]) -> Iterator[bool]:
    """Whether each array holds complex numbers.

    Raises:
        DamagedFileError: unless the elements fill the file: SciPy takes a torn element for the end of the file.
    """
    position, size = 128, path.stat().st_size
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            tag = file.read(8)
            start = file.read(64)
            if int.from_bytes(tag[:4], order) == _COMPRESSED:
                start = _inflated(path, start)[8:]  # of a compressed element the tag is compressed as well
            # The flags are the first element within: 8 bytes of tag, then a word with the class and the flags.
            yield bool(int.from_bytes(start[8:12], order) >> 8 & _COMPLEX)
            position += 8 + int.from_bytes(tag[4:8], order)
    if position != size:
        raise _damaged(path, f"it has {size} of at least {position} bytes")


def _inflated(path: Path, start: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(start, 32)
    except zlib.error as error:
        raise _damaged(path, "its compressed bytes are damaged") from error


def _of_hdf5(path: Path, order: AxisOrder) -> dict[str, ArrayReader]:
    with open_hdf5(path) as file:
        import h5py

        found: dict[str, ArrayReader] = {}
        others = {}
        for key, item in file.items():
            if not isinstance(item, h5py.Dataset) or not (item.dtype.kind in "fiubc" or is_pair(item.dtype)):
                if not key.startswith("#"):  # where MATLAB keeps what its cells refer to
                    others[key] = "a structure" if isinstance(item, h5py.Group) else str(item.dtype)
                continue
            reader: ArrayReader = Hdf5Dataset.of(item)
            reader = of_pairs(reader) if is_pair(item.dtype) else reader
            found[str(key)] = ReversedAxes(reader) if order == "matlab" else reader
        say_no_numbers(path, others)
        return found


def _why(path: Path) -> str:
    size = path.stat().st_size
    return f"its {size} bytes are no whole header" if size < 128 else "its structure is damaged"


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
        raise _damaged(path, f"the bytes of {key} are damaged") from error
