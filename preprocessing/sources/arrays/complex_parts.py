"""Complex numbers as two real arrays: stores keep real channels, and half a number is another number."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, ArrayView, ConvertedArray, Index

Part = Literal["real", "imag"]
PARTS: tuple[Part, Part] = ("real", "imag")
_PAIRS = (("real", "imag"), ("r", "i"))  # as MATLAB, and as h5py and netCDF, name the halves of a pair


@dataclass(frozen=True)
class ComplexPart(ArrayView):
    """The real or the imaginary part of another reader."""

    part: Part

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return real_type(self.reader.dtype)

    @property
    def name(self) -> str:
        """File, key and part, for messages."""
        return f"{self.reader.name} ({self.part})"

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return np.ascontiguousarray(getattr(self.reader.read(index), self.part))


def real_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type of the parts of complex numbers."""
    return np.empty(0, dtype).real.dtype


def is_pair(dtype: np.dtype[Any]) -> bool:
    """Whether the elements are pairs of numbers that stand for complex ones, as in MATLAB's files of version 7.3."""
    return dtype.names in _PAIRS and all(dtype[i].kind == "f" for i in (0, 1))


def of_pairs(reader: ArrayReader) -> ArrayReader:
    """Pairs of numbers as complex numbers."""
    return ConvertedArray(reader, _joined, np.result_type(reader.dtype[0], np.complex64))


# A function of the module, so that readers can be pickled.
def _joined(pairs: NDArray[Any]) -> NDArray[Any]:
    out = np.empty(pairs.shape, np.result_type(pairs.dtype[0], np.complex64))
    out.real, out.imag = (pairs[name] for name in pairs.dtype.names or ())
    return out
