"""Boundary conditions of The Well: masks over the coordinates, and values at the points that they mark."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Boundary
from pelagos.preprocessing.sources.arrays.array_reader import (
    ArrayReader,
    ArrayView,
    Index,
    as_floating,
    as_slice,
    take_block,
)
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset

_log = logging.getLogger(__name__)
_SLAB = 1 << 24  # most bytes of masks or fields in memory at a time
_KINDS: dict[str, Boundary] = {"periodic": "periodic", "wall": "wall", "open": "open"}

Side = tuple[str, int]
"""An axis and one of its ends, 0 or -1."""


@dataclass(frozen=True)
class ScatteredValues(ArrayView):
    """Values (.., points) at the points that a mask (.., space) marks, in C order; 0 elsewhere.

    Attributes:
        reader: the values; they, the mask, or both have the leading axes.
        mask: of the points.
        space: number of the mask's axes in space.
    """

    mask: Hdf5Dataset
    space: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        leading = self.mask.shape[: -self.space] or self.reader.shape[:-1]
        return (*leading, *self.mask.shape[-self.space :])

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; raises DataError unless there are as many values as marked points."""
        leading, inside = index[: -self.space], index[-self.space :]
        lengths = [
            n for size, one in zip(self.shape, leading, strict=False) for n in np.arange(size)[one].shape
        ]
        wanted = take_block(np.broadcast_to(False, self.shape[-self.space :]), inside).shape
        out = np.zeros((prod(lengths), *wanted), self.dtype)
        for number, field in enumerate(self._fields(leading)):
            out[number] = take_block(field, inside)
        return out.reshape(*lengths, *wanted)

    def _fields(self, leading: Index) -> Iterator[NDArray[Any]]:
        """One whole field after the other, since values can only be counted off along all of a mask."""
        shape, space = self.shape[: -self.space], self.shape[-self.space :]
        for slab in _slabs(shape, leading, self.dtype.itemsize * prod(space)):
            masks = self.mask.read(_own(self.mask, slab, (slice(None),) * self.space)).astype(bool)
            values = self.reader.read(_own(self.reader, slab, (slice(None),)))
            masks, values = masks.reshape(-1, *space), values.reshape(-1, values.shape[-1])
            for number in range(max(len(masks), len(values))):
                yield self._placed(masks[number % len(masks)], values[number % len(values)])

    def _placed(self, mask: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[Any]:
        if (marked := np.count_nonzero(mask)) != len(values):
            raise DataError(
                f"{self.name} has {len(values)} values where {self.mask.name} marks {marked} points"
            )
        # 0 and not NaN, or stores without any missing value would have to be built with `missing: keep`.
        placed = np.zeros(mask.shape, self.dtype)
        placed[mask] = values
        return placed


def _own(reader: ArrayReader, leading: Index, inside: Index) -> Index:
    """The index for a reader that may lack the leading axes."""
    return (*leading, *inside) if len(reader.shape) > len(inside) else inside


def _slabs(shape: tuple[int, ...], index: Index, item_bytes: int) -> Iterator[Index]:
    """Indices along trajectory and time that together cover `index`, each of at most `_SLAB` bytes of items."""
    if not shape:
        yield ()
        return
    *before, last = (np.atleast_1d(np.arange(n)[one]) for n, one in zip(shape, index, strict=True))
    step = max(1, _SLAB // item_bytes)
    for row in product(*(positions.tolist() for positions in before)):
        for start in range(0, len(last), step):
            yield (*row, as_slice(last[start : start + step]))


@dataclass(frozen=True)
class ZeroArray:
    """An array of zeros, for a condition that only other files have."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return take_block(np.broadcast_to(np.zeros((), self.dtype), self.shape), index).copy()


@dataclass(frozen=True)
class ConditionField:
    """A boundary condition as a field: its axes, and its mask or values, 0 where the condition does not hold."""

    long_name: str
    axes: tuple[str, ...]
    reader: ArrayReader


@dataclass(frozen=True)
class BoundaryCondition:
    """One boundary condition.

    Attributes:
        sides: the sides that it marks, with its kind; None if it marks one only in places or at times.
        fields: `NAME_mask` and `NAME_values`.
        has_fields: whether these say more than `sides`, so that they become variables.
    """

    sides: Mapping[Side, Boundary | None]
    fields: Mapping[str, ConditionField]
    has_fields: bool


def read_condition(
    group: Any, kind: str, axes: Mapping[str, int], varying: Sequence[str], of: Sequence[str]
) -> BoundaryCondition:
    """The condition in an open h5py group.

    Args:
        group: holds `mask` and perhaps `values`.
        kind: as the file spells it.
        axes: the mask's axes in space, with their lengths.
        varying: which of trajectory and time lead the axes of the mask, the values or both.
        of: the fields whose values are given.
    """
    name, stored, known = group.name.rsplit("/", 1)[-1], group["mask"], _KINDS.get(kind.lower())
    about = f"boundary condition {name} ({kind.lower()})"
    before = len(stored.shape) - len(axes)
    if before not in (0, len(varying)) or stored.shape[before:] != tuple(axes.values()):
        _log.warning(
            "%s: its mask of shape %s does not fit its axes %s, and is left out",
            _label(group),
            stored.shape,
            ", ".join(f"{axis}={length}" for axis, length in axes.items()),
        )
        return BoundaryCondition(dict.fromkeys(product(axes, (0, -1))), {}, has_fields=False)
    mask, alone = Hdf5Dataset.of(stored), before == 0
    own = () if alone else tuple(varying)
    fields = {f"{name}_mask": ConditionField(f"where the {about} holds", (*own, *axes), as_floating(mask))}
    if (
        values := _values(group, len(axes), varying, int(np.count_nonzero(stored[()])) if alone else None)
    ) is not None:
        leading = tuple(varying) if own or len(values.shape) > 1 else ()
        what = f"values of {', '.join(of)}" if of else "values"
        placed = ScatteredValues(as_floating(values), mask, len(axes))
        fields[f"{name}_values"] = ConditionField(f"{what} at the {about}", (*leading, *axes), placed)
    if known == "periodic" and len(axes) == 1:
        # An axis is periodic as a whole; the package's own example marks no point.
        both: dict[Side, Boundary | None] = dict.fromkeys(product(axes, (0, -1)), known)
        return BoundaryCondition(both, fields, has_fields=values is not None)
    sides, beyond = _sides(stored, known, tuple(axes))
    return BoundaryCondition(sides, fields, has_fields=beyond or values is not None)


def _label(group: Any) -> str:
    return f"{group.file.filename}: {group.name}"


def _values(group: Any, space: int, varying: Sequence[str], marked: int | None) -> Hdf5Dataset | None:
    """The condition's values, one for each of `marked` points (None where their number varies), if there are any."""
    stored = group.get("values")
    if stored is None or not stored.size:
        return None
    if len(stored.shape) - 1 not in (0, len(varying)) or marked not in (None, stored.shape[-1]):
        _log.warning(
            "%s: its values of shape %s are not one for each of the %s points marked, and are left out",
            _label(group),
            stored.shape,
            "" if marked is None else marked,
        )
        return None
    return Hdf5Dataset.of(stored)


def _sides(
    stored: Any, kind: Boundary | None, axes: Sequence[str]
) -> tuple[dict[Side, Boundary | None], bool]:
    """The sides that a mask marks, and whether it marks points beyond whole sides."""
    leading = len(stored.shape) - len(axes)
    rest = None if leading else np.array(stored[()], bool)
    found: dict[Side, Boundary | None] = {}
    for (axis, name), end in product(enumerate(axes), (0, -1)):
        marked, whole = _marks(stored, leading, axis, end)
        if marked:
            found[name, end] = kind if whole else None
            if rest is not None and whole:
                rest[(slice(None),) * axis + (end,)] = False
    return found, rest is None or bool(rest.any())


def _marks(stored: Any, leading: int, axis: int, end: int) -> tuple[bool, bool]:
    """Whether a mask marks some of a side at some time, and whether all of it at all times."""
    # Corners belong to two sides: a mask of the other one marks them as well.
    inside = [slice(1, max(1, n - 1)) for n in stored.shape[leading:]]
    inside[axis] = slice(0, 1) if end == 0 else slice(stored.shape[leading + axis] - 1, None)
    shape = stored.shape[:leading]
    marked, whole = False, True
    for slab in _slabs(
        shape, (slice(None),) * leading, prod(stored.shape[leading:]) // stored.shape[leading + axis]
    ):
        side = stored[(*slab, *inside)]
        marked, whole = marked or bool(np.any(side)), whole and bool(np.all(side))
    return marked, whole
