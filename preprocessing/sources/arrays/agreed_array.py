"""AgreedArray: an array that several files repeat, of which each block is compared when it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, ArrayView, Index


@dataclass(frozen=True)
class AgreedArray(ArrayView):
    """The array of one file, which all others must repeat.

    Attributes:
        others: the same array in other files.
        rounding: by how much packing may move a value.
    """

    others: tuple[ArrayReader, ...]
    rounding: float = 0.0

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; raises DataError where a file holds other values."""
        values = self.reader.read(index)
        for other in self.others:
            self._compare(values, other, other.read(index))
        return values

    def _compare(self, values: NDArray[Any], other: ArrayReader, repeated: NDArray[Any]) -> None:
        one, two = values.astype(np.float64), repeated.astype(np.float64)
        # Copies in float32 and float64 are the same field.
        allowed = 1e-6 * np.nanmax(np.abs(one), initial=0.0, where=np.isfinite(one)) + self.rounding
        differ = ~((np.abs(one - two) <= allowed) | (one == two) | (np.isnan(one) & np.isnan(two)))
        if differ.any():
            where = tuple(np.argwhere(differ)[0])
            raise DataError(
                f"{self.name} and {other.name} do not depend on time but differ: {one[where]:g} and {two[where]:g}"
                f" at the first of {int(differ.sum())} points; give only one of the files, leave the field out by"
                " variables, or make a dataset of each"
            )


def agreed(readers: Sequence[ArrayReader], rounding: float = 0.0) -> ArrayReader:
    """The first reader, held against the others when it is read; alone where there is one."""
    return AgreedArray(readers[0], tuple(readers[1:]), rounding) if len(readers) > 1 else readers[0]
