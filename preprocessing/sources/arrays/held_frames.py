"""HeldFrames: a field on more times than it has, so that fields of different times share one axis until a subset."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from pelagos.preprocessing.sources.arrays.array_reader import Index, as_slice

ABSENT = -1


class HeldFrames(BackendArray):
    """A lazy variable whose frames lie at some of the times of a longer axis; NaN at all others."""

    def __init__(self, variable: xr.Variable, positions: NDArray[np.int64]) -> None:
        """A variable with a dimension `time`, and for each time of the longer axis its frame or `ABSENT`."""
        self.variable, self.positions = variable, positions
        self.along = variable.dims.index("time")
        self.dtype = variable.dtype
        self.shape = tuple(
            len(positions) if axis == self.along else length for axis, length in enumerate(variable.shape)
        )

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Index) -> NDArray[Any]:
        asked = key[self.along]
        wanted = np.atleast_1d(self.positions[asked])
        there = wanted != ABSENT
        before, after = key[: self.along], key[self.along + 1 :]
        own = self.variable[(*before, as_slice(wanted[there]), *after)].values
        # Axes selected by an integer are gone from the block, so the axis of times may have moved forward.
        axis = sum(not isinstance(one, int | np.integer) for one in before)
        shape = (*own.shape[:axis], len(wanted), *own.shape[axis + 1 :])
        out = np.full(shape, np.nan, self.dtype)
        out[(slice(None),) * axis + (there,)] = own
        return out if isinstance(asked, slice | np.ndarray) else np.take(out, 0, axis)


def on_longer_axis(variable: xr.Variable, positions: NDArray[np.int64]) -> xr.Variable:
    """The variable on a longer axis of times; see `HeldFrames`."""
    lazy = indexing.LazilyIndexedArray(HeldFrames(variable, positions))
    return xr.Variable(variable.dims, lazy, variable.attrs)
