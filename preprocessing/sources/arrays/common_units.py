"""Common units: what several files hold of one field or axis, in the units of the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.quantities.units import conversion, parse_unit
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, ConvertedArray

# What archives write where a quantity has no dimension; UDUNITS reads none of these.
_DIMENSIONLESS = ("1", "(0 - 1)", "0-1", "-", "~", "none", "fraction", "dimensionless", "unitless")


@dataclass(frozen=True)
class UnitChange:
    """A change of units, `scale * values + offset`, computed in double precision."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """The converted values, in the type of the given ones."""
        return np.asarray(self.scale * values.astype(np.float64) + self.offset).astype(values.dtype)

    @property
    def changes_nothing(self) -> bool:
        """Whether both units are the same."""
        return (self.scale, self.offset) == (1.0, 0.0)

    def of(self, reader: ArrayReader) -> ArrayReader:
        """A reader of the converted values; the same one where nothing changes."""
        return reader if self.changes_nothing else ConvertedArray(reader, self, reader.dtype)


def common_units(
    field: str, found: Sequence[tuple[object, str]], *, unknown_differ: bool = True
) -> tuple[str, list[UnitChange]]:
    """The units of the first file that states any, and the conversion of each file's values to them.

    Args:
        field: name of the field or axis, for messages.
        found: each file and the units that it states, empty where it states none.
        unknown_differ: whether units that are not in the table are refused where they are spelled differently.

    Raises:
        DataError: two files measure different things, or in units whose ratio is not known.
    """
    stated = [(place, units) for place, units in found if units]
    if not stated:
        return "", [UnitChange()] * len(found)
    first, common = stated[0]
    conversions = []
    for place, units in found:
        if not units and common not in _DIMENSIONLESS:
            # A question: values in degrees Celsius from a file that lost its units would pass for kelvin.
            text = f"{place} states no units; taken as {common}, as in {first}"
            ask("units_missing", field, text, "correct the file, or accept: [units_missing]")
        same = units in ("", common) or {units, common} <= set(_DIMENSIONLESS)
        change = UnitChange() if same else _change((first, common), (place, units), field, unknown_differ)
        if not change.changes_nothing:
            assume("units_converted", field, f"{place} from {units} to {common}, as in {first}")
        conversions.append(change)
    return common, conversions


def _change(
    first: tuple[object, str], other: tuple[object, str], field: str, unknown_differ: bool
) -> UnitChange:
    (one, wanted), (two, units) = first, other
    old, new = (_spelled(text) for text in (units, wanted))
    try:
        scale, offset = conversion(old, new)
    except ConfigError as error:
        if not unknown_differ and "measure different" not in str(error):
            return UnitChange()
        raise DataError(
            f"{one} has {field} in {wanted!r} and {two} in {units!r}, which cannot be joined ({error}); correct"
            " the units of one of them, or make a dataset of each"
        ) from error
    # hPa and mbar differ by the rounding of their factors alone.
    return UnitChange() if abs(scale - 1) < 1e-12 and abs(offset) < 1e-12 else UnitChange(scale, offset)


def _spelled(text: str) -> str:
    """Units as the table spells them: a fraction is 1, and Kelvin is kelvin."""
    if text in _DIMENSIONLESS:
        return "1"
    for spelling in (text, text.casefold()):
        try:
            parse_unit(spelling)
        except ConfigError:
            continue
        return spelling
    return text
