"""ConcatenatedArray: arrays of several files one after the other along an axis, such as the levels of a field."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, ArrayView, Index, as_slice


@dataclass(frozen=True)
class ConcatenatedArray(ArrayView):
    """A reader followed by others along one axis.

    Attributes:
        others: of the same shape, except along that axis.
        axis: along which they follow one another.
    """

    others: tuple[ArrayReader, ...]
    axis: int

    @property
    def readers(self) -> tuple[ArrayReader, ...]:
        """All of them, in order."""
        return (self.reader, *self.others)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        length = sum(reader.shape[self.axis] for reader in self.readers)
        return (*self.reader.shape[: self.axis], length, *self.reader.shape[self.axis + 1 :])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements, which holds those of all readers."""
        return np.result_type(*(reader.dtype for reader in self.readers))

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`, of which only the readers that hold some are read."""
        wanted = np.arange(self.shape[self.axis])[index[self.axis]]
        before, after = index[: self.axis], index[self.axis + 1 :]
        blocks, start = [], 0
        for reader in self.readers:
            stop = start + reader.shape[self.axis]
            own = np.atleast_1d(wanted)
            own = own[(start <= own) & (own < stop)] - start
            if len(own):
                blocks.append(reader.read((*before, as_slice(own), *after)))
            start = stop
        if not blocks:
            blocks = [self.reader.read((*before, slice(0, 0), *after))]
        # Axes selected by an integer are gone from the blocks, so the axis may have moved forward.
        axis = sum(not isinstance(one, int) for one in before)
        values = np.concatenate(blocks, axis).astype(self.dtype, copy=False)
        return values.take(0, axis) if isinstance(index[self.axis], int) else values
