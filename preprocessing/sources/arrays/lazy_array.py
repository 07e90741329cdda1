"""Arrays that stay on disk: what `open` returns, read when and as far as they are needed.

A *part* is one stored array (a `Part`: of HDF5, of a torch file, ...). A `LazyArray` lays parts
end to end along one dimension, names and permutes their axes, selects components and repeats
what does not vary. Nothing holds a file open, so that variables can be pickled, and read by
several threads and processes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.location import Url
from pelagos.preprocessing.sources.files import missing

Index = tuple[int | slice | NDArray[np.int64], ...]


class Part(Protocol):
    """A stored array that knows its shape and reads any block of itself."""

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
        """The block at one int, slice or increasing array an axis (at most one array)."""
        ...


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
    except PermissionError:
        raise
    except OSError as error:
        raise DamagedFileError(f"{path}: not a whole HDF5 file ({error}); fetch or make it again") from error
    with file:
        yield file


def member(file: Any, key: str) -> Any:
    """The dataset or group `key` of an open h5py file.

    Raises:
        DataError: if there is none; the message lists what there is.
    """
    if key in file:
        return file[key]
    listed = list(file)
    found = ", ".join(listed[:20]) + (", ..." if len(listed) > 20 else "")
    raise DataError(f"{file.file.filename}: no '{key}' in '{file.name}'; it holds {found or 'nothing'}")


@dataclass(frozen=True)
class Stored:
    """What is known of an array in a file: enough to open it at each access."""

    path: Path | Url
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """File and key, for messages."""
        return f"{self.path}: {self.key}"


@dataclass(frozen=True)
class View:
    """Another part seen in another way: what differs is for subclasses to say."""

    part: Part

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.part.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.part.dtype

    @property
    def name(self) -> str:
        """File and key, for messages."""
        return self.part.name


@dataclass(frozen=True)
class Hdf5Dataset(Stored):
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


@dataclass(frozen=True)
class Converted:
    """Another part with a function applied to its values (which must not change the shape)."""

    part: Part
    function: Callable[[NDArray[Any]], NDArray[Any]]
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.part.shape

    @property
    def name(self) -> str:
        """File and key, for messages."""
        return self.part.name

    def read(self, index: Index) -> NDArray[Any]:
        """The converted block."""
        return self.function(self.part.read(index))


def floating(part: Part) -> Part:
    """The part itself, or its values in float32 where they are integers or booleans."""
    if part.dtype.kind == "f":
        return part
    return Converted(part, _single, np.dtype(np.float32))


def _single(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32)


class LazyArray(BackendArray):
    """Parts laid end to end along one dimension, as xarray's backends want it."""

    def __init__(
        self,
        dims: Sequence[str],
        parts: Sequence[Part],
        layout: Sequence[str | int],
        sizes: Mapping[str, int],
        along: str = "trajectory",
        counts: Sequence[int] | None = None,
    ) -> None:
        """An array of dims `dims`.

        Args:
            dims: names of the array's dimensions.
            parts: at least one, all of one type.
            layout: for each axis of a part the dimension's name, or the position to select. Along
                a dimension that it lacks the part is repeated.
            sizes: length of every dimension.
            along: the dimension along which parts follow each other; if the array lacks it there
                is one part.
            counts: how often each part is repeated along `along` where `layout` lacks it; once each
                where not given.

        Raises:
            DataError: if a part's shape contradicts `layout` and `sizes`.
        """
        self.dims, self.parts, self.layout, self.along = tuple(dims), tuple(parts), tuple(layout), along
        self.shape = tuple(sizes[dim] for dim in self.dims)
        self.dtype = self.parts[0].dtype
        for part in self.parts:
            self._check(part, sizes)
        if along in self.layout:
            counts = [part.shape[self.layout.index(along)] for part in self.parts]
        self.starts = np.concatenate([[0], np.cumsum(counts or [1] * len(self.parts))])
        assert along in self.dims or len(self.parts) == 1
        if along in self.dims and self.starts[-1] != sizes[along]:
            raise DataError(
                f"{self.parts[0].name} has {self.starts[-1]} along {along}; {sizes[along]} were expected"
            )

    def _check(self, part: Part, sizes: Mapping[str, int]) -> None:
        if part.dtype != self.dtype:
            raise DataError(f"{part.name} is {part.dtype} but {self.parts[0].name} is {self.dtype}")
        if len(part.shape) == len(self.layout) and all(
            length > axis if isinstance(axis, int) else axis == self.along or length == sizes[axis]
            for length, axis in zip(part.shape, self.layout, strict=True)
        ):
            return
        expected = ", ".join(
            f"more than {axis}"
            if isinstance(axis, int)
            else axis
            if axis == self.along
            else f"{axis}={sizes[axis]}"
            for axis in self.layout
        )
        raise DataError(f"{part.name} has shape {part.shape}; ({expected}) was expected")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Index) -> NDArray[Any]:
        single = [not isinstance(one, slice | np.ndarray) for one in key]
        index = {
            dim: one if isinstance(one, slice | np.ndarray) else slice(int(one), int(one) + 1)
            for dim, one in zip(self.dims, key, strict=True)
        }
        blocks = [self._block(part, where) for part, where in self._pieces(index)]
        values = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, self.dims.index(self.along))
        return values[tuple(0 if is_single else slice(None) for is_single in single)]

    def _pieces(self, index: dict[str, Any]) -> list[tuple[Part, dict[str, Any]]]:
        if self.along not in self.dims:
            return [(self.parts[0], index)]
        positions = np.arange(self.starts[-1])[index[self.along]]
        if not len(positions):
            return [(self.parts[0], index | {self.along: slice(0, 0)})]
        owners, firsts = np.unique(np.searchsorted(self.starts, positions, "right") - 1, return_index=True)
        return [
            (self.parts[owner], index | {self.along: slice_of(local - self.starts[owner])})
            for owner, local in zip(owners, np.split(positions, firsts[1:]), strict=True)
        ]

    def _block(self, part: Part, index: dict[str, Any]) -> NDArray[Any]:
        values = part.read(tuple(axis if isinstance(axis, int) else index[axis] for axis in self.layout))
        stored = [axis for axis in self.layout if isinstance(axis, str)]
        values = values.transpose([stored.index(dim) for dim in self.dims if dim in stored])
        values = values[tuple(slice(None) if dim in stored else None for dim in self.dims)]
        shape = tuple(
            len(range(n)[one]) if isinstance(one, slice) else len(one)
            for n, one in zip(self.shape, (index[dim] for dim in self.dims), strict=True)
        )
        return values if values.shape == shape else np.broadcast_to(values, shape).copy()


def take(values: NDArray[Any], index: Index) -> NDArray[Any]:
    """The block of an array in memory: NumPy would move axes where an int and an array index together."""
    fixed = tuple(one if isinstance(one, int) else slice(None) for one in index)
    return values[fixed][tuple(one for one in index if not isinstance(one, int))]


def slice_of(positions: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """An equivalent slice where positions are evenly spaced: HDF5 reads it in one go."""
    if not len(positions):
        return slice(0, 0)
    steps = np.unique(np.diff(positions))
    if len(steps) > 1:
        return positions
    step = int(steps[0]) if len(steps) else 1
    return slice(int(positions[0]), int(positions[-1]) + 1, step)


def variable(
    dims: Sequence[str],
    parts: Sequence[Part],
    layout: Sequence[str | int],
    sizes: Mapping[str, int],
    attrs: Mapping[str, str],
    along: str = "trajectory",
    counts: Sequence[int] | None = None,
) -> xr.Variable:
    """An xarray variable over a `LazyArray` of the same arguments."""
    array = LazyArray(dims, parts, layout, sizes, along, counts)
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), attrs)
