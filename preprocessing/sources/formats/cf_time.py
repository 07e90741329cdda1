"""Times of CF files: the dates that numbers since a start stand for, in any calendar, rounded no finer than stored."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats.cf_variable import PackedVariable

_SECONDS: dict[str, float] = {
    "second": 1,
    "sec": 1,
    "s": 1,
    "minute": 60,
    "min": 60,
    "hour": 3600,
    "hr": 3600,
    "h": 3600,
}
_SECONDS |= {"day": 86400, "d": 86400, "millisecond": 1e-3, "msec": 1e-3, "ms": 1e-3, "microsecond": 1e-6}
_MONTHS = {"month": 1, "mon": 1, "year": 12, "yr": 12}
_ROUND = (3600, 1800, 900, 600, 300, 60, 30, 10, 1)
"""Steps [s] that people date fields by, coarsest first."""
_ABSOLUTE = re.compile(r"days? as %Y%m%d(\.%f)?")  # what CDO writes with --absolute_taxis
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T _]\d\d(:\d\d){0,2}(\.\d+)?Z?)?")
_PRECISION = "precision"
"""Where `with_dates` notes in the encoding how far a date may be off as it is stored [s]."""


def with_dates(path: Path | Url, ds: xr.Dataset) -> xr.Dataset:
    """The dataset with dates for times, and with the auxiliary coordinates that it names as coordinates.

    What cannot be decoded stays a number: only an axis of time must be.
    """
    ds = xr.decode_cf(ds, mask_and_scale=False, decode_times=False)
    found = {}
    for name, stored in ds.variables.items():
        if (texts := _of_texts(stored)) is not None:
            found[name] = xr.Variable(stored.dims, texts, stored.attrs)
        if stored.ndim > 1 or stored.dtype.kind not in "iuf" or not stored.size:
            continue
        values, error = _decoded(path, str(name), stored)
        if values is not None:
            kept = {key: one for key, one in stored.attrs.items() if key not in ("units", "calendar")}
            found[name] = xr.Variable(stored.dims, values, kept, {"dtype": stored.dtype, _PRECISION: error})
    for dim in map(str, ds.dims):
        # WRF dates its frames by Times, beside a dimension Time without a coordinate.
        along = [one for one in found.values() if one.dims == (dim,)]
        if dim not in ds.variables and len(along) == 1:
            found[dim] = along[0]
    coordinates = {name: found.pop(name) for name in list(found) if name in ds.coords or name in ds.dims}
    return ds.assign_coords(coordinates).assign(found)


def _of_texts(stored: xr.Variable) -> NDArray[Any] | None:
    """The dates of texts in ISO's form, be it with WRF's underscore; None where they are not."""
    if stored.ndim != 1 or stored.dtype.kind not in "SUO" or not stored.size:
        return None
    texts = [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in stored.values]
    if not all(_DATE.fullmatch(text.strip()) for text in texts):
        return None
    try:
        return np.array(
            [text.strip().replace("_", "T").removesuffix("Z") for text in texts], "datetime64[ns]"
        )
    except ValueError:  # such as a 30 February
        return None


def _decoded(path: Path | Url, name: str, stored: xr.Variable) -> tuple[NDArray[Any] | None, float]:
    """The dates of a variable, None where it holds none that can be read, and their precision [s]."""
    unit, since, start = str(stored.attrs.get("units", "")).partition(" since ")
    absolute = _ABSOLUTE.fullmatch(unit) is not None
    if not since and not absolute:
        return None, 0.0
    unit = unit.strip().casefold()
    unit = unit if unit == "s" or unit == "ms" else unit.removesuffix("s")
    packed = PackedVariable.of(path, name, stored)
    raw = stored.values if (packed.scale, packed.offset) == (1, 0) else packed.unpack(stored.values)
    try:
        if absolute:
            return _of_digits(raw), _precision(stored, packed, 86400)
        if unit in _MONTHS and not _is_360(stored):
            return _of_months(path, name, raw, start, stored, _MONTHS[unit]), 0.0
        return _of_numbers(raw, stored), _precision(stored, packed, _SECONDS.get(unit, 0))
    except (ValueError, OverflowError):  # read_coordinate refuses it where it is an axis
        return None, 0.0


def _precision(stored: xr.Variable, packed: PackedVariable, unit: float) -> float:
    """How far a date may be from the one that was meant [s]."""
    if packed.scale != 1:
        return unit * abs(packed.scale)
    if stored.dtype.kind != "f":
        return 0.0
    return unit * convention.rounding(stored.values.astype(np.float64), stored.dtype)


def _of_numbers(raw: NDArray[Any], stored: xr.Variable) -> NDArray[Any]:
    attrs = {key: stored.attrs[key] for key in ("units", "calendar") if key in stored.attrs}
    counted = xr.Dataset({"it": xr.Variable(stored.dims, raw, attrs, stored.encoding)})
    with warnings.catch_warnings():
        # It warns of starts such as 1-1-1, and where it gives objects instead of datetime64: both are read.
        warnings.simplefilter("ignore", xr.SerializationWarning)
        found = xr.decode_cf(counted, mask_and_scale=False, decode_timedelta=False)["it"].values
    return dates.simplified(found) if dates.is_dated(found) else found


def _is_360(stored: xr.Variable) -> bool:
    return stored.attrs.get("calendar") == "360_day"


def _of_months(
    path: Path | Url, name: str, raw: NDArray[Any], start: str, stored: xr.Variable, each: int
) -> NDArray[Any]:
    calendar = {key: stored.attrs[key] for key in ("calendar",) if key in stored.attrs}
    first = xr.Variable((), np.int64(0), calendar | {"units": f"days since {start}"})
    unit = "months" if each == 1 else "years"
    found = dates.add_months(np.atleast_1d(_of_numbers(first.values, first)), np.ravel(raw) * float(each))
    assume("times", name, f"{path}: {name} counts {unit} since {start}, taken as {unit} of the calendar")
    return found.reshape(raw.shape)


def _of_digits(raw: NDArray[Any]) -> NDArray[Any]:
    """Dates of numbers such as 20010131.25, which is 6 o'clock on 31 January 2001."""
    whole = np.floor(raw.astype(np.float64)).astype(np.int64)
    days = [f"{one // 10000:04}-{one // 100 % 100:02}-{one % 100:02}" for one in whole.ravel().tolist()]
    into = np.rint((np.ravel(raw).astype(np.float64) - whole.ravel()) * 86400e6).astype("timedelta64[us]")
    return np.asarray(np.array(days, "datetime64[us]") + into).reshape(raw.shape)


def require_dates(path: Path | Url, name: str, stored: xr.Variable) -> None:
    """Raise DataError where an axis says that it counts from a start, but no dates could be made of it."""
    if not stored.size:
        raise DataError(f"{path}: {name} has no entries, so there are no fields to read")
    if stored.dtype.kind in "SUO":
        raise DataError(
            f"{path}: {name} holds texts such as {str(stored.values.flat[0])!r}, of which no dates can be made; dates"
            " in ISO's form, such as 2000-01-01T00:00, would be right"
        )
    units, calendar = str(stored.attrs.get("units", "")), stored.attrs.get("calendar", "standard")
    if " since " in units:
        raise DataError(
            f"{path}: {name} counts '{units}' in the calendar '{calendar}', of which no dates can be made; a unit"
            " from seconds to years, a start such as 2000-01-01, and one of the calendars standard,"
            " proleptic_gregorian, noleap, all_leap, 360_day and julian would be right"
        )


def rounded_dates(path: Path | Url, name: str, stored: xr.Variable) -> NDArray[Any]:
    """The dates along an axis, put back where they were meant to be if rounding in the file moved them off it.

    In float32 hourly days since 2000 are up to 21 s off in the 2020s, and those since 1900 up to 169 s.
    """
    axis, error = np.atleast_1d(stored.values), float(stored.encoding.get(_PRECISION, 0.0))
    if not error or (axis.dtype.kind == "M" and np.isnat(axis).any()):
        return axis
    counted = dates.seconds(axis)
    if not len(convention.uneven_frames(counted)) and (counted == np.rint(counted)).all():
        return axis
    meant = _meant(counted, error)
    if meant is None:
        return axis
    if error >= 1:
        assume(
            "times",
            name,
            f"{path}: {name} is stored in {stored.encoding['dtype']}, which is precise to"
            f" {error:.3g} s; rounded, the first steps are {np.diff(meant)[:3].tolist()} s",
        )
    return dates.from_seconds(meant, axis)


def _meant(counted: Floats, error: float) -> Floats | None:
    """The round times within the error; None where the error could hide a difference between times."""
    for step in _ROUND:
        near = np.rint(counted / step) * step
        if step >= 4 * error and (np.abs(near - counted) <= error).all():
            return np.asarray(near)
    if len(counted) < 2:
        return None
    # Times of even steps that begin at no round time: as even_times, but in whole seconds.
    mean = (counted[-1] - counted[0]) / (len(counted) - 1)
    for step in (round_to * np.rint(mean / round_to) for round_to in _ROUND):
        near = np.rint(counted[0]) + step * np.arange(len(counted))
        if step >= 4 * error and (np.abs(near - counted) <= error).all():
            return np.asarray(near)
    return None
