"""Alignment: the same field of several files in one type, one order of axes, and on rows and columns in one order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.sources.arrays.array_reader import ArrayView, ConvertedArray, Index
from pelagos.preprocessing.sources.formats.cf_axes import LONGITUDE, is_angle
from pelagos.preprocessing.sources.formats.cf_file import CFField

_SAME = 1e-4  # of the spacing: coordinates in single precision are those in double precision


@dataclass(frozen=True)
class Cast:
    """A change to another type of floating-point numbers."""

    dtype: np.dtype[Any]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values in that type."""
        return values.astype(self.dtype)


@dataclass(frozen=True)
class TransposedArray(ArrayView):
    """Another reader with its axes in another order.

    Attributes:
        order: for each axis its position in the other reader.
    """

    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.reader.shape[axis] for axis in self.order)

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; an axis selected by an integer is dropped, as in NumPy."""
        inner = [one for _, one in sorted(zip(self.order, index, strict=True), key=lambda pair: pair[0])]
        kept = [axis for axis, one in zip(self.order, index, strict=True) if not isinstance(one, int)]
        return self.reader.read(tuple(inner)).transpose([sorted(kept).index(axis) for axis in kept])


@dataclass(frozen=True, eq=False)
class ReorderedAxis(ArrayView):
    """Another reader whose entries along one axis are in another order.

    Attributes:
        axis: the axis.
        positions: of each entry in the other reader.
    """

    axis: int
    positions: NDArray[np.int64]

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; reads all that lies between the first and the last entry that is wanted."""
        before, one, after = index[: self.axis], index[self.axis], index[self.axis + 1 :]
        if isinstance(one, int):
            return self.reader.read((*before, int(self.positions[one]), *after))
        wanted = self.positions[one]
        low = int(wanted.min()) if len(wanted) else 0
        stop = int(wanted.max()) + 1 if len(wanted) else 0
        values = self.reader.read((*before, slice(low, stop), *after))
        return np.take(values, wanted - low, sum(not isinstance(other, int) for other in before))


def aligned(found: Sequence[CFField]) -> list[CFField]:
    """The fields of several files, read as the first one is.

    What is only laid out otherwise is not another field: floating-point types, the order of axes, rows that run the
    other way, and longitudes from 0 to 360 or from -180 to 180. What cannot be brought into line is left as it is.
    """
    if len(found) < 2:
        return list(found)
    dtype = np.result_type(*(one.reader.dtype for one in found))
    return [_like(found[0], one, dtype) for one in found]


def _like(first: CFField, one: CFField, dtype: np.dtype[Any]) -> CFField:
    if one.reader.dtype != dtype and dtype.kind == one.reader.dtype.kind == "f":
        one = replace(one, reader=ConvertedArray(one.reader, Cast(dtype), dtype))
    named = all(isinstance(axis, str) for axis in (*first.axes, *one.axes))
    if one.axes != first.axes and named and set(one.axes) == set(first.axes):
        order = tuple(one.axes.index(axis) for axis in first.axes)
        one = replace(one, reader=TransposedArray(one.reader, order), axes=first.axes)
    if first.file is one.file or first.file.horizontal is not None or one.file.horizontal is not None:
        return one
    return _columns_like(first, _rows_like(first, one))


def _rows_like(first: CFField, one: CFField) -> CFField:
    wanted, held = first.file.coordinates.get("y"), one.file.coordinates.get("y")
    if wanted is None or held is None or "y" not in one.axes or len(held) != len(wanted) or len(held) < 2:
        return one
    if not _equal(held.values[::-1], wanted.values) or _equal(held.values, wanted.values):
        return one
    text = f"{one.file.place}: its rows run the other way than those of {first.file.place}; turned round"
    assume("rows_flipped", "y", text, "accept: [rows_flipped]; source.latitude orders all of them")
    return _reordered(one, "y", np.arange(len(held))[::-1].copy(), held[::-1])


def _columns_like(first: CFField, one: CFField) -> CFField:
    wanted, held = first.file.coordinates.get("x"), one.file.coordinates.get("x")
    if wanted is None or held is None or "x" not in one.axes or len(held) != len(wanted):
        return one
    if _equal(held.values, wanted.values) or not (is_angle(held, LONGITUDE) and is_angle(wanted, LONGITUDE)):
        return one
    spacing = np.abs(np.diff(wanted.values)).min() if len(wanted) > 1 else 1.0
    # Distances on the circle from each wanted longitude to each that the file has.
    apart = np.abs((held.values[None, :] - wanted.values[:, None] + 180) % 360 - 180)
    positions = apart.argmin(axis=1)
    if apart.min(axis=1).max() > _SAME * spacing or len(np.unique(positions)) < len(positions):
        return one
    text = f"{one.file.place}: its longitudes begin at {held.values[0]:g}, those of {first.file.place} at"
    assume("longitudes_unwrapped", "x", f"{text} {wanted.values[0]:g}; put in their order")
    return _reordered(one, "x", positions, xr.Variable(held.dims, wanted.values, held.attrs))


def _reordered(one: CFField, axis: Any, positions: NDArray[np.int64], coordinate: xr.Variable) -> CFField:
    file = replace(one.file, coordinates={**one.file.coordinates, axis: coordinate})
    return replace(one, file=file, reader=ReorderedAxis(one.reader, one.axes.index(axis), positions))


def _equal(one: NDArray[Any], two: NDArray[Any]) -> bool:
    spacing = np.abs(np.diff(two)).min() if len(two) > 1 else 1.0
    return bool((np.abs(one - two) <= _SAME * spacing).all())
