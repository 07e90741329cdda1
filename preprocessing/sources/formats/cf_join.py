"""Joining of CF files: one field of several files in order, and the coordinates that all fields share."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.agreed_array import agreed
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader
from pelagos.preprocessing.sources.arrays.common_units import common_units
from pelagos.preprocessing.sources.arrays.held_frames import ABSENT, on_longer_axis
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable
from pelagos.preprocessing.sources.formats.cf_alignment import aligned
from pelagos.preprocessing.sources.formats.cf_axes import CFAxis
from pelagos.preprocessing.sources.formats.cf_file import CFField
from pelagos.preprocessing.sources.formats.scalar_coordinate import require_same
from pelagos.preprocessing.sources.formats.step_ranges import step_ranges

KINDS_OF_LEVEL = ("air_pressure", "height", "altitude", "depth", "model_level_number", "geopotential_height")
"""Names of the kinds of levels of CF 1.11, chapter 4.3, of which two of one number are different places."""

Placed = tuple[str, xr.Variable]


def joined(name: str, found: list[CFField]) -> list[CFField]:
    """One field of several files, in the order of their times; a static one in the order of the files.

    Raises:
        DataError: the files hold different fields under this name, or overlap.
    """
    found = aligned(found)
    first = found[0]
    for other in found[1:]:
        if (other.key, other.axes, other.dated) != (first.key, first.axes, first.dated):
            raise DataError(
                f"{first.reader.name} {first.axes} and {other.reader.name} {other.axes} would both be"
                f" called {name}; tell them apart by rename, as in rename: {{{other.key}: {name}_2}}"
            )
        require_same(name, (first.file.place, first.scalars), (other.file.place, other.scalars))
    if not first.dated:
        return found
    along = _along(found)
    _require_one_kind_of_time(found)
    ordered = sorted(found, key=lambda stored: stored.file.coordinates[along].values[0])
    for one, two in pairwise(ordered):
        end, start = one.file.coordinates[along].values[-1], two.file.coordinates[along].values[0]
        if not start > end:
            raise DataError(
                f"{one.file.place} and {two.file.place} overlap: {name} up to {end} and from {start} on"
            )
    return ordered


def _along(found: Sequence[CFField]) -> Literal["trajectory", "time"]:
    """The axis along which files follow one another: starts of forecasts, or samples at the same times, else time."""
    coordinates = [stored.file.coordinates for stored in found]
    if any("trajectory" not in axes for axes in coordinates) or len(found) == 1:
        return "time"
    times, starts = ([axes[axis].values for axes in coordinates] for axis in ("time", "trajectory"))
    if dates.is_dated(starts[0]) and not dates.is_dated(times[0]):
        return "trajectory"
    same = [all(np.array_equal(one, values[0]) for one in values) for values in (times, starts)]
    return "trajectory" if same[0] and not same[1] else "time"


def _require_one_kind_of_time(found: Sequence[CFField]) -> None:
    first = found[0].file
    for other in (stored.file for stored in found[1:]):
        times = [file.coordinates["time"].values for file in (first, other)]
        if dates.is_dated(times[0]) == dates.is_dated(times[1]):
            dates.require_one_calendar(first.place, times[0], other.place, times[1])
        else:
            raise DataError(
                f"{first.place} has {_kind_of_time(first.coordinates['time'])} and {other.place}"
                f" {_kind_of_time(other.coordinates['time'])}: make a dataset of each"
            )


def _kind_of_time(time: xr.Variable) -> str:
    if dates.is_dated(time.values):
        return f"dates (the first is {time.values[0]})"
    return (
        f"times without dates, or lead times (the first is {time.values[0]:g} {time.attrs.get('units', '')})"
    )


def merged(fields: Mapping[str, list[CFField]]) -> dict[CFAxis, xr.Variable]:
    """The coordinates of all fields; raises DataError where two files differ."""
    found: dict[CFAxis, Placed] = {}
    for stored in fields.values():
        along = _along(stored)
        held = [axis for one in stored for axis in one.axes if isinstance(axis, str)]
        axes: list[CFAxis] = [axis for axis in dict.fromkeys(held) if axis not in ("time", along)]
        own = [(axis, one.file.place, one.file.coordinates[axis]) for one in stored for axis in axes]
        if stored[0].dated:
            own += [(axis, *one) for axis, one in _dated_axes(stored, along)]
        for axis, path, values in own:
            there, first = found.setdefault(axis, (path, values))
            one_unit = first.attrs.get("units") == values.attrs.get("units")
            if axis == "time" and one_unit and _begin_or_end_apart(first.values, values.values):
                united = np.union1d(first.values, values.values)
                found[axis] = there, xr.Variable((axis,), united, first.attrs)
                continue
            _require_equal(axis, (there, first), (path, values))
    if "time" not in found:
        raise DataError(
            f"{next(iter(found.values()))[0]} and its like: no field depends on time, so there is nothing to predict"
        )
    return {axis: values for axis, (_, values) in found.items()}


def _begin_or_end_apart(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Whether the times of two fields differ, but some are the same: a subset may leave those that both have."""
    if dates.is_dated(one) != dates.is_dated(two) or np.array_equal(one, two):
        return False
    if not dates.is_dated(one):
        return bool(np.intersect1d(one, two).size)
    if dates.calendar_of(one) != dates.calendar_of(two):
        return False
    return bool(np.intersect1d(dates.seconds(one), dates.seconds(two)).size)


def _dated_axes(
    stored: Sequence[CFField], along: Literal["trajectory", "time"]
) -> list[tuple[CFAxis, Placed]]:
    """Times, and the starts of forecasts: joined along one of them, and the same in all files along the other."""
    axes: tuple[CFAxis, ...] = tuple(
        axis for axis in ("trajectory", "time") if axis in stored[0].file.coordinates
    )
    found: list[tuple[CFAxis, Placed]] = []
    for axis in axes:
        files = [(one.file.place, one.file.coordinates[axis]) for one in stored]
        found += [(axis, _concatenated(axis, files))] if axis == along else [(axis, one) for one in files]
    return found


def _concatenated(axis: CFAxis, files: Sequence[Placed]) -> Placed:
    units, changes = common_units(axis, [(path, str(one.attrs.get("units", ""))) for path, one in files])
    values = [
        one.values if change.changes_nothing else change(one.values)
        for change, (_, one) in zip(changes, files, strict=True)
    ]
    attrs = files[0][1].attrs | ({"units": units} if units else {})
    return files[0][0], xr.Variable((axis,), np.concatenate(values), attrs)


def _require_equal(axis: CFAxis, one: Placed, two: Placed) -> None:
    """Raise DataError unless two files have the same coordinate, be it in other units."""
    (here, first), (there, second) = one, two
    if first is second:
        return
    kinds = [str(coordinate.attrs.get("standard_name", "")) for coordinate in (first, second)]
    if axis == "level" and kinds[0] != kinds[1] and set(kinds) <= set(KINDS_OF_LEVEL):
        raise DataError(f"{here} has levels of {kinds[0]} and {there} of {kinds[1]}: make a dataset of each")
    if axis == "time" and dates.is_dated(first.values) != dates.is_dated(second.values):
        raise DataError(
            f"{here} and {there} differ in time: the one has {_kind_of_time(first)}, the other"
            f" {_kind_of_time(second)}; take the fields of one of them by variables"
        )
    # Spellings of degrees are many; only what is known to measure something else is refused for rows and columns.
    units = [(place, str(one.attrs.get("units", ""))) for place, one in ((here, first), (there, second))]
    if axis == "level" and _measure_apart(units):
        raise DataError(
            f"{here} has levels in '{units[0][1]}' and {there} in '{units[1][1]}': take the fields of one kind by"
            " variables or select (of GRIB, select: {typeOfLevel: ...}), and make a dataset of each"
        )
    _, (_, change) = common_units(axis, units, unknown_differ=axis == "level")
    values: NDArray[Any] = second.values if change.changes_nothing else change(second.values)
    try:
        convention.require_equal(axis, (here, first.values), (there, values))
    except DataError as error:
        raise DataError(
            f"{error}; take the fields of one of them by variables, or make a dataset of each"
        ) from error


def _measure_apart(units: Sequence[tuple[object, str]]) -> bool:
    """Whether two levels are a pressure and the number of a model level, for example."""
    try:
        conversion(*(text or "1" for _, text in units))
    except ConfigError as error:
        return "measure different" in str(error)
    return False


def on_times(
    name: str, stored: Sequence[CFField], sizes: Mapping[str, int], times: NDArray[Any]
) -> xr.Variable:
    """The lazy variable of a field of several files on the times of all fields; missing where it has no frame."""
    along = _along(stored)
    if not stored[0].dated:
        return joined_variable(name, stored, sizes)
    files = [(one.file.place, one.file.coordinates["time"]) for one in stored]
    own = (_concatenated("time", files)[1] if along == "time" else files[0][1]).values
    # Times of other units or roundings are compared where coordinates are merged.
    if np.array_equal(own, times) or not np.isin(own, times).all():
        return joined_variable(name, stored, sizes)
    positions = np.full(len(times), ABSENT)
    positions[np.searchsorted(times, own)] = np.arange(len(own))
    variable = joined_variable(name, stored, {**sizes, "time": len(own)})
    longer = on_longer_axis(variable, positions)
    # The file is kept for the message, should a subset leave times at which this field has no frame.
    longer.attrs |= {convention.HELD: f"held_{name}", "file": stored[0].file.place}
    longer.encoding[convention.HELD] = positions != ABSENT
    return longer


def joined_variable(name: str, stored: Sequence[CFField], sizes: Mapping[str, int]) -> xr.Variable:
    """The lazy variable of a field of several files, in the units of the first that states any."""
    first = stored[0]
    units, changes = common_units(name, [(one.file.place, _text(one, "units")) for one in stored])
    if not units:
        assume("units_missing", name, f"{first.file.place}: {first.key} states no units; taken as 1")
    kept = ("long_name", "standard_name", "cell_methods", "GRIB_stepType", "GRIB_uvRelativeToGrid")
    ranges = step_ranges(name, [(one.file.place, _text(one, "GRIB_stepRange")) for one in stored])
    attrs = convention.attrs(
        name,
        "prognostic" if first.dated else "static",
        units=units or "1",
        **{key: _text(first, key) for key in kept},
        **({convention.STEP_RANGES: ranges} if ranges else {}),
    )
    readers = [change.of(one.reader) for change, one in zip(changes, stored, strict=True)]
    dims: tuple[str, ...]
    if first.dated:
        dims = convention.LEVEL_DIMS if "level" in first.axes else convention.TIME_DIMS
        return lazy_variable(dims, readers, first.axes, sizes, attrs, _along(stored))
    alone: list[ArrayReader] = [agreed(readers, max(one.rounding for one in stored) * 2)]
    dims = ("trajectory", "y", "x") if "trajectory" in first.axes else ("y", "x")
    return lazy_variable(dims, alone, first.axes, sizes, attrs, "time")


def _text(stored: CFField, key: str) -> str:
    text = str(stored.attrs.get(key, "")).strip()
    return "" if text == "unknown" else text  # what ecCodes says of parameters that its tables lack
