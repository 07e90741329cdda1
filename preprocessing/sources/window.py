"""Parts of parts: the first frames of an array, and arrays that stand in no file."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.sources.lazy import Index, Part, take


@dataclass(frozen=True)
class FirstFrames:
    """The first `count` positions along the first axis of another part."""

    part: Part
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (self.count, *self.part.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.part.dtype

    @property
    def name(self) -> str:
        """File and key, for messages."""
        return self.part.name

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        first = index[0]
        if isinstance(first, slice):
            first = slice(*first.indices(self.count))
        return self.part.read((first, *index[1:]))


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
