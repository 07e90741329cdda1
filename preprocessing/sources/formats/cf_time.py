"""Times of CF files: the dates that numbers since a start stand for, in any calendar, rounded no finer than stored."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import ask, assume
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
_ABSOLUTE = re.compile(r"(day|month|year)s? as %Y(%m(%d)?)?(\.%f)?")  # what CDO writes with --absolute_taxis
# Numbers that are read as dates by their digits, where the file has no units: year 1500 to 2499, month, ...
_DIGITS = re.compile(
    r"(1[5-9]|2[0-4])\d\d(0[1-9]|1[0-2])((0[1-9]|[12]\d|3[01])(([01]\d|2[0-3])([0-5]\d){0,2})?)?"
)
_ZONE = re.compile(r"\d\s*(?!utc|gmt|z)([a-z]{2,})$", re.IGNORECASE)
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
        return _of_bare_digits(path, name, stored), 0.0
    unit = unit.strip().casefold()
    unit = unit if unit == "s" or unit == "ms" else unit.removesuffix("s")
    packed = PackedVariable.of(path, name, stored)
    raw = stored.values if (packed.scale, packed.offset) == (1, 0) else packed.unpack(stored.values)
    try:
        if absolute:
            return _of_digits(raw, unit), _precision(stored, packed, 86400)
        if unit in _MONTHS and not _is_360(stored):
            return _of_months(path, name, raw, start, stored, _MONTHS[unit]), 0.0
        found = _of_numbers(raw, stored)
        if dates.is_dated(found) and (zone := _ZONE.search(start)):
            text = f"{path}: {name} counts from {start}, whose time zone {zone[1]} is not known; taken as UTC"
            ask(
                "times",
                name,
                text,
                "state the offset in the file, as in +01:00, or accept: [times] where it is UTC",
            )
        return found, _precision(stored, packed, _SECONDS.get(unit, 0))
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


def _of_digits(raw: NDArray[Any], unit: str) -> NDArray[Any]:
    """Dates of numbers such as 20010131.25, which is 6 o'clock on 31 January 2001.

    Raises:
        ValueError: these are no dates, or in single precision, which holds no eight digits.
    """
    values = raw.astype(np.float64)
    whole = np.floor(values).astype(np.int64)
    if raw.dtype.itemsize < 4 or (raw.dtype == np.float32 and (whole > 1 << 24).any()):
        raise ValueError(raw.dtype)
    digits = {"d": 1, "m": 100, "y": 10000}[unit[0]]
    if digits > 1 and (whole != values).any():
        raise ValueError("a part of a month")
    counted = (whole * digits + {1: 0, 100: 1, 10000: 101}[digits]).ravel().tolist()
    days = [f"{one // 10000:04}-{one // 100 % 100:02}-{one % 100:02}" for one in counted]
    into = np.rint((values - whole).ravel() * 86400e6).astype("timedelta64[us]")
    return np.asarray(np.array(days, "datetime64[us]") + into).reshape(raw.shape)


def _of_bare_digits(path: Path | Url, name: str, stored: xr.Variable) -> NDArray[Any] | None:
    """Dates of an axis of time such as 19790101, 1979010106 or 197901 without units; None where these are numbers."""
    units = str(stored.attrs.get("units", "")).strip()
    says = units.casefold().startswith(("yyyy", "%y"))
    named = name.casefold() in ("time", "date", "valid_time") or stored.attrs.get("standard_name") == "time"
    if not named or stored.dims != (name,) or not (says or units in ("", "1")):
        return None
    values = stored.values.astype(np.float64)
    if not np.isfinite(values).all() or (values != np.floor(values)).any() or (values < 0).any():
        return None
    texts = [f"{int(one)}" for one in values]
    if not all(map(_DIGITS.fullmatch, texts)) or len({len(one) for one in texts}) > 1:
        return None
    if stored.dtype.kind == "f" and stored.dtype.itemsize < 8 and len(texts[0]) > 7:
        raise DataError(
            f"{path}: {name} holds dates such as {texts[0]} in {stored.dtype}, which cannot hold so many digits;"
            " 64 bits would be right"
        )
    try:
        found = np.array([_iso(one) for one in texts], "datetime64[s]").astype("datetime64[us]")
    except ValueError:  # 31 February
        return None
    pattern = "YYYYMMDDhhmmss"[: len(texts[0])]
    text = (
        f"{path}: {name} has values such as {texts[0]}, taken as dates {pattern}: {dates.text_of(found[0])}"
    )
    if says:
        assume("times", name, text, "accept: [times]")
    else:
        ask("times", name, f"{text}; the file has no units", "accept: [times], or state units in the file")
    return found


def _iso(digits: str) -> str:
    """The ISO form of YYYYMM, YYYYMMDD, YYYYMMDDhh, ..."""
    clock = ":".join(digits[i : i + 2].ljust(2, "0") for i in (8, 10, 12))
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8] or '01'}T{clock.replace('::', ':00:')}"


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
    if " as %" in units:
        raise DataError(
            f"{path}: {name} counts '{units}', but its values ({stored.values.ravel()[0]!r}, ...) are no such dates in"
            f" {stored.dtype}; numbers such as 20010131.25 in 64 bits would be right"
        )
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
