"""FirstPresent: an array merged along one axis, such as preliminary and final versions of a reanalysis."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.array_reader import ArrayView, Index


@dataclass(frozen=True)
class FirstPresent(ArrayView):
    """Another reader without its axis `axis`: each value is the first of those at `positions` that is not missing."""

    axis: int
    positions: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (*self.reader.shape[: self.axis], *self.reader.shape[self.axis + 1 :])

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        before, after = index[: self.axis], index[self.axis :]
        values = self.reader.read((*before, self.positions[0], *after))
        for position in self.positions[1:]:
            absent = np.isnan(values)
            if absent.any():
                values = np.where(absent, self.reader.read((*before, position, *after)), values)
        return values
