"""Marked values: numbers such as -9999 that stand for missing values without the archive saying so.

A configuration names them by `marks`, and a survey that finds one asks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from pelagos.preprocessing.sources.arrays.array_reader import Index

_SAME = 1e-6  # of the mark: 1e20 differs in single and in double precision
# The ends of integers and of float32, what netCDF fills with, and the centres' own (GRIB, NOAA, Ferret).
_LIMITS = (32767, 32768, 65535, 2147483647, 2147483648, 3.4028235e38, 9.969209968386869e36, 8.99999987e33)


def is_mark(value: float) -> bool:
    """Whether a number is one of those that people write for missing values: -999.9, 1e20, -32767, ..."""
    size = abs(value)
    if not 99 < size < np.inf:
        return False
    digits = f"{size:.7g}".partition("e")[0].replace(".", "").strip("0")
    nines = set(digits) == {"9"} and len(digits) >= 3
    power = digits == "1" and size >= 1e10
    return nines or power or any(abs(size - one) <= _SAME * one for one in _LIMITS)


class MarkedValues(BackendArray):
    """A lazy variable of which some values are missing."""

    def __init__(self, variable: xr.Variable, marks: Sequence[float]) -> None:
        """A variable, and the values of it that mark missing ones."""
        self.variable, self.marks = variable, tuple(marks)
        self.dtype, self.shape = variable.dtype, variable.shape

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Index) -> NDArray[Any]:
        # In this thread: a worker of Dask that waits for another task may wait for itself.
        values = np.array(self.variable[key].compute(scheduler="synchronous").values)
        for mark in self.marks:
            values[np.abs(values.astype(np.float64) - mark) <= _SAME * abs(mark)] = np.nan
        return values


def without_marks(ds: xr.Dataset, marks: Mapping[str, Sequence[float]]) -> xr.Dataset:
    """The dataset with NaN for the marks of each field; reads nothing."""
    for name, values in marks.items():
        stored = ds[name].variable
        lazy = indexing.LazilyIndexedArray(MarkedValues(stored, values))
        ds = ds.assign({name: xr.Variable(stored.dims, lazy, stored.attrs, stored.encoding)})
    return ds
