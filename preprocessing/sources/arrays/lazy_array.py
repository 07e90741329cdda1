"""LazyArray: what `open()` of a source returns, arrays that are read when and as far as they are needed.

It concatenates readers along one dimension, names and permutes their axes, selects components, and repeats what
does not vary. xarray slices it without reading anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, Index, as_slice
from pelagos.preprocessing.sources.convention import FILES


class LazyArray(BackendArray):
    """Readers concatenated along one dimension, in the form that xarray expects of a backend."""

    def __init__(
        self,
        dims: Sequence[str],
        readers: Sequence[ArrayReader],
        axes: Sequence[str | int],
        sizes: Mapping[str, int],
        along: str = "trajectory",
        counts: Sequence[int] | None = None,
    ) -> None:
        """An array of dims `dims`.

        Args:
            dims: names of the array's dimensions.
            readers: at least one, all of one type.
            axes: of each reader, in its order: the dimension's name, or the position to select. Along a dimension
                that is not among them the reader's values are repeated.
            sizes: length of every dimension.
            along: the dimension along which the readers follow one another; an array without it has one reader.
            counts: where `axes` lacks `along`, how often each reader's values are repeated there; once each if
                not given.

        Raises:
            DataError: if a reader's shape contradicts `axes` and `sizes`.
        """
        self.dims, self.readers, self.axes, self.along = tuple(dims), tuple(readers), tuple(axes), along
        self.shape = tuple(sizes[dim] for dim in self.dims)
        self.dtype = self.readers[0].dtype
        for reader in self.readers:
            self._check(reader, sizes)
        if along in self.axes:
            counts = [reader.shape[self.axes.index(along)] for reader in self.readers]
        self.starts = np.concatenate([[0], np.cumsum(counts or [1] * len(self.readers))])
        assert along in self.dims or len(self.readers) == 1
        if along in self.dims and self.starts[-1] != sizes[along]:
            raise DataError(
                f"{self.readers[0].name} has {self.starts[-1]} along {along}; {sizes[along]} were expected"
            )

    def _check(self, reader: ArrayReader, sizes: Mapping[str, int]) -> None:
        if reader.dtype != self.dtype:
            raise DataError(f"{reader.name} is {reader.dtype} but {self.readers[0].name} is {self.dtype}")
        if len(reader.shape) == len(self.axes) and all(
            length > axis if isinstance(axis, int) else axis == self.along or length == sizes[axis]
            for length, axis in zip(reader.shape, self.axes, strict=True)
        ):
            return
        expected = ", ".join(
            f"more than {axis}"
            if isinstance(axis, int)
            else axis
            if axis == self.along
            else f"{axis}={sizes[axis]}"
            for axis in self.axes
        )
        raise DataError(f"{reader.name} has shape {reader.shape}; ({expected}) was expected")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        # Readers take one array of positions at most; xarray selects the rest from what they return.
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Index) -> NDArray[Any]:
        # Integers become slices of length one, so that blocks keep all their dimensions until the end.
        single = [not isinstance(one, slice | np.ndarray) for one in key]
        index = {
            dim: one if isinstance(one, slice | np.ndarray) else slice(int(one), int(one) + 1)
            for dim, one in zip(self.dims, key, strict=True)
        }
        blocks = [self._block(reader, where) for reader, where in self._selected(index)]
        values = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, self.dims.index(self.along))
        return values[tuple(0 if is_single else slice(None) for is_single in single)]

    def _selected(self, index: dict[str, Any]) -> list[tuple[ArrayReader, dict[str, Any]]]:
        """The readers that hold what is wanted, each with its own index."""
        if self.along not in self.dims:
            return [(self.readers[0], index)]
        positions = np.arange(self.starts[-1])[index[self.along]]
        if not len(positions):
            # An empty block still has the other dimensions.
            return [(self.readers[0], index | {self.along: slice(0, 0)})]
        owners, firsts = np.unique(np.searchsorted(self.starts, positions, "right") - 1, return_index=True)
        return [
            (self.readers[owner], index | {self.along: as_slice(local - self.starts[owner])})
            for owner, local in zip(owners, np.split(positions, firsts[1:]), strict=True)
        ]

    def _block(self, reader: ArrayReader, index: dict[str, Any]) -> NDArray[Any]:
        """One reader's share, in the array's dimensions."""
        values = reader.read(tuple(axis if isinstance(axis, int) else index[axis] for axis in self.axes))
        stored = [axis for axis in self.axes if isinstance(axis, str)]
        values = values.transpose([stored.index(dim) for dim in self.dims if dim in stored])
        values = values[tuple(slice(None) if dim in stored else None for dim in self.dims)]
        shape = tuple(
            len(range(n)[one]) if isinstance(one, slice) else len(one)
            for n, one in zip(self.shape, (index[dim] for dim in self.dims), strict=True)
        )
        # A copy, since a broadcast view is read-only and callers may write to what they get.
        return values if values.shape == shape else np.broadcast_to(values, shape).copy()


def lazy_variable(
    dims: Sequence[str],
    readers: Sequence[ArrayReader],
    axes: Sequence[str | int],
    sizes: Mapping[str, int],
    attrs: Mapping[str, str],
    along: str = "trajectory",
    counts: Sequence[int] | None = None,
) -> xr.Variable:
    """An xarray variable over a `LazyArray` of the same arguments; its encoding says which file each part is from."""
    array = LazyArray(dims, readers, axes, sizes, along, counts)
    files = [_file_of(reader) for reader in array.readers]
    # Objects, since thousands of trajectories share the text.
    encoding = {FILES: (along, np.repeat(np.array(files, object), np.diff(array.starts)))}
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), attrs, encoding if along in dims else None)


def _file_of(reader: Any) -> str:
    """The file that a reader, or the one that it wraps, reads from; empty for arrays in memory."""
    while hasattr(reader, "reader"):
        reader = reader.reader
    return str(getattr(reader, "path", ""))
