"""ArrayReader: one array that stays where it is stored, and of which any block can be read.

A reader holds no file open, so it can be pickled and used by several threads and processes at once. Views such as
`ConvertedArray` wrap one reader in another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url

Index = tuple[int | slice | NDArray[np.int64], ...]


class ArrayReader(Protocol):
    """An array that knows its shape and reads any block of itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        ...

    @property
    def name(self) -> str:
        """File and key, for messages."""
        ...

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`: an int, a slice or an increasing array for each axis, at most one of them an array."""
        ...


@dataclass(frozen=True)
class FileArray:
    """Where an array lies in a file and what it looks like: enough to open it anew at each access."""

    path: Path | Url
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """File and key, for messages."""
        return f"{self.path}: {self.key}"


@dataclass(frozen=True)
class ArrayView:
    """Another reader seen differently; subclasses override what differs and add `read`."""

    reader: ArrayReader

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.reader.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.reader.dtype

    @property
    def name(self) -> str:
        """File and key, for messages."""
        return self.reader.name


@dataclass(frozen=True)
class ConvertedArray:
    """Another reader whose values pass through a function that keeps their shape."""

    reader: ArrayReader
    function: Callable[[NDArray[Any]], NDArray[Any]]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.reader.shape

    @property
    def name(self) -> str:
        """File and key, for messages."""
        return self.reader.name

    def read(self, index: Index) -> NDArray[Any]:
        """The converted block."""
        return self.function(self.reader.read(index))


def as_floating(reader: ArrayReader) -> ArrayReader:
    """The reader itself, or one that gives float32 where it holds integers or booleans.

    Complex numbers stay complex: whoever takes them makes two fields of them.

    Raises:
        DataError: it holds no numbers.
    """
    if reader.dtype.kind in "fc":
        return reader
    if reader.dtype.kind not in "iub":
        raise DataError(f"{reader.name} is {reader.dtype}; numbers would be right")
    return ConvertedArray(reader, _to_float32, np.dtype(np.float32))


# A lambda could not be pickled, and readers are sent to other processes.
def _to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32)


def take_block(values: NDArray[Any], index: Index) -> NDArray[Any]:
    """The block of an array in memory, with its axes in order.

    NumPy moves axes to the front where an integer and an array index together, so integers go first.
    """
    fixed = tuple(one if isinstance(one, int) else slice(None) for one in index)
    return values[fixed][tuple(one for one in index if not isinstance(one, int))]


def as_slice(positions: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """The slice that selects the same positions where they are evenly spaced, else the positions themselves."""
    if not len(positions):
        return slice(0, 0)
    steps = np.unique(np.diff(positions))
    if len(steps) > 1:
        return positions
    # HDF5 reads a slice in one go, but positions point by point.
    step = int(steps[0]) if len(steps) else 1
    return slice(int(positions[0]), int(positions[-1]) + 1, step)
