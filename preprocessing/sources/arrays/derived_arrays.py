"""Parts of parts: some frames of an array, frames of two arrays, and arrays that stand in no file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.lazy_array import Index, Part, View, slice_of, take


@dataclass(frozen=True)
class Lasting(View):
    """Another part over `count` frames along one axis: without what it has more, NaN for what it lacks."""

    axis: int
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        shape = self.part.shape
        return (*shape[: self.axis], self.count, *shape[self.axis + 1 :])

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        frames = np.arange(self.count)[index[self.axis]]
        there = frames < self.part.shape[self.axis]
        own = int(frames) if isinstance(index[self.axis], int) else slice_of(frames[there])
        where = (*index[: self.axis], own, *index[self.axis + 1 :])
        if np.all(there):
            return self.part.read(where)
        out = take(np.broadcast_to(np.array(np.nan, self.dtype), self.shape), index).copy()
        if np.any(there):
            before = sum(not isinstance(one, int) for one in index[: self.axis])
            out[(slice(None),) * before + (there,)] = self.part.read(where)
        return out


def lasting(part: Part, axes: Sequence[str | int], own: int, count: int) -> Part:
    """A part of `own` frames over `count` of them; itself where it has no time, or another number of frames."""
    axis = axes.index("time") if "time" in axes else len(axes)
    return part if own == count or part.shape[axis : axis + 1] != (own,) else Lasting(part, axis, count)


@dataclass(frozen=True)
class InitialFirst(View):
    """Frames (N, .., t) after their initial values (N, ..), as (N, .., 1 + t)."""

    initial: Part

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (*self.part.shape[:-1], 1 + self.part.shape[-1])

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        frames = np.arange(self.shape[-1])[index[-1]]
        blocks = [self.initial.read(index[:-1])[..., None]] if 0 in frames else []
        if len(later := frames[frames > 0]):
            blocks.append(self.part.read((*index[:-1], slice_of(later - 1))))
        return np.concatenate(blocks, axis=-1) if blocks else self.part.read((*index[:-1], slice(0, 0)))


@dataclass(frozen=True)
class WithLastAxis(View):
    """Another part with a further axis of length 1 at the end."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (*self.part.shape, 1)

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return self.part.read(index[:-1])[..., None][..., index[-1]]


@dataclass(frozen=True, eq=False)
class Constant:
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
        return take(self.values, index)
