"""Arrays derived from others, such as a number of frames of one or the frames of two, and arrays held in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.array_reader import (
    ArrayReader,
    ArrayView,
    Index,
    as_slice,
    take_block,
)


@dataclass(frozen=True)
class ResizedAxis(ArrayView):
    """Another reader whose axis `axis` has `length` entries: cut if it is longer, filled up with NaN if shorter."""

    axis: int
    length: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        shape = self.reader.shape
        return (*shape[: self.axis], self.length, *shape[self.axis + 1 :])

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        wanted = np.arange(self.length)[index[self.axis]]
        there = wanted < self.reader.shape[self.axis]
        own = int(wanted) if isinstance(index[self.axis], int) else as_slice(wanted[there])
        where = (*index[: self.axis], own, *index[self.axis + 1 :])
        if np.all(there):
            return self.reader.read(where)
        out = take_block(np.broadcast_to(np.array(np.nan, self.dtype), self.shape), index).copy()
        if np.any(there):
            # Axes selected by an integer are gone from the block, so the axis may have moved forward.
            before = sum(not isinstance(one, int) for one in index[: self.axis])
            out[(slice(None),) * before + (there,)] = self.reader.read(where)
        return out


def resized_in_time(
    reader: ArrayReader, axes: Sequence[str | int], num_frames: int, wanted: int
) -> ArrayReader:
    """A reader of `num_frames` frames as one of `wanted` frames; the same one where it has no axis of these frames."""
    axis = axes.index("time") if "time" in axes else len(axes)
    if num_frames == wanted or reader.shape[axis : axis + 1] != (num_frames,):
        return reader
    return ResizedAxis(reader, axis, wanted)


@dataclass(frozen=True)
class WithInitialValues(ArrayView):
    """Frames (N, .., t), preceded by their initial values (N, ..): (N, .., 1 + t)."""

    initial: ArrayReader

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (*self.reader.shape[:-1], 1 + self.reader.shape[-1])

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        if isinstance(index[-1], int):
            return self.read((*index[:-1], slice(index[-1], index[-1] + 1)))[..., 0]
        frames = np.arange(self.shape[-1])[index[-1]]
        blocks = [self.initial.read(index[:-1])[..., None]] if 0 in frames else []
        if len(later := frames[frames > 0]):
            blocks.append(self.reader.read((*index[:-1], as_slice(later - 1))))
        return np.concatenate(blocks, axis=-1) if blocks else self.reader.read((*index[:-1], slice(0, 0)))


@dataclass(frozen=True)
class WithTrailingAxis(ArrayView):
    """Another reader with a further axis of length 1 at the end."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (*self.reader.shape, 1)

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return self.reader.read(index[:-1])[..., None][..., index[-1]]


# Without eq, since a comparison of arrays has no single truth value.
@dataclass(frozen=True, eq=False)
class MemoryArray:
    """An array in memory; `name` says where it comes from."""

    values: NDArray[Any]
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.values.dtype

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return take_block(self.values, index)
