"""Dates: axes of datetime64 in the standard calendar, or of cftime's objects in the calendars of climate models.

Climate models count years of 365 or 360 days, which datetime64 lacks. Whoever asks an axis for its dates asks here, so
that both are treated alike.
"""

import re
from typing import Any

import cftime
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import DataError

EPOCH = "seconds since 1970-01-01 00:00:00"
STANDARD = "proleptic_gregorian"
"""The calendar of datetime64."""
_REFORM = (
    1582,
    10,
    15,
)  # before it the standard calendar of CF counts Julian dates, which datetime64 does not
_ISO = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?(?:[T ](\d\d)(?::(\d\d))?(?::(\d\d)(?:\.0+)?)?Z?)?")
# A mean of a month is dated to its middle: day 14.0 of 28 and day 15.5 of 31 are the same half.
_SAME_PART_OF_MONTH = 0.07


def is_dated(axis: NDArray[Any]) -> bool:
    """Whether the values of an axis are dates."""
    return axis.dtype.kind == "M" or (
        axis.dtype == object and axis.size > 0 and isinstance(axis.flat[0], cftime.datetime)
    )


def calendar_of(axis: NDArray[Any]) -> str:
    """The calendar of dates, as CF spells it."""
    return STANDARD if axis.dtype.kind == "M" else str(axis.flat[0].calendar)


def simplified(axis: NDArray[Any]) -> NDArray[Any]:
    """Objects of the standard calendar as datetime64, where it has them: far from 1970 xarray gives objects."""
    if axis.dtype.kind == "M" or calendar_of(axis) not in (STANDARD, "standard", "gregorian"):
        return axis
    if calendar_of(axis) != STANDARD and any(
        (one.year, one.month, one.day) < _REFORM for one in axis.flat[[0, -1]]
    ):
        return axis
    return np.array([one.isoformat() for one in axis.flat], "datetime64[us]").reshape(axis.shape)


def require_one_calendar(here: object, one: NDArray[Any], there: object, two: NDArray[Any]) -> None:
    """Raise DataError where two places count time differently, so that their times cannot be compared."""
    names = [calendar_of(axis) if is_dated(axis) else "no dates" for axis in (one, two)]
    if len(one) and len(two) and names[0] != names[1]:
        raise DataError(
            f"{here} and {there} differ in their calendars: {names[0]} and {names[1]}; make a dataset of each"
        )


def seconds(axis: NDArray[Any]) -> Floats:
    """(T,) seconds since the start of 1970 in the calendar of the dates."""
    if axis.dtype.kind == "M":
        return np.asarray((axis - np.datetime64(0, "s")) / np.timedelta64(1, "s"), np.float64)
    return np.asarray(cftime.date2num(axis, EPOCH, calendar_of(axis)), np.float64)


def from_seconds(counted: Floats, like: NDArray[Any]) -> NDArray[Any]:
    """(T,) dates of whole seconds since the start of 1970, in the calendar and type of other dates."""
    if like.dtype.kind == "M":
        return np.asarray(counted.astype("datetime64[s]").astype(like.dtype))
    made = cftime.num2date(counted.astype(np.int64), EPOCH, calendar_of(like))
    return np.asarray(made, object)


def parse(text: str, like: NDArray[Any]) -> Any:
    """The date of an ISO text, in the calendar of other dates.

    Raises:
        ValueError: it is none, as 2001-02-29 in a calendar without leap years.
    """
    if like.dtype.kind == "M":
        return np.datetime64(text)
    if not (match := _ISO.fullmatch(text)):
        raise ValueError(text)
    year, month, day, *clock = (None if part is None else int(part) for part in match.groups())
    return cftime.datetime(
        year, month or 1, day or 1, *(part or 0 for part in clock), calendar=calendar_of(like)
    )


def text_of(moment: Any) -> str:
    """A date in ISO's form, to the second."""
    if isinstance(moment, np.datetime64):
        return str(np.datetime_as_string(moment, unit="s"))
    return str(moment.strftime("%Y-%m-%dT%H:%M:%S")).replace(" ", "0")


def years(axis: NDArray[Any]) -> tuple[int, int]:
    """The first and the last year of an axis."""
    if axis.dtype.kind == "M":
        first, last = (int(one) + 1970 for one in axis[[0, -1]].astype("datetime64[Y]").astype(int))
        return first, last
    return int(axis[0].year), int(axis[-1].year)


def day_fraction(axis: NDArray[Any]) -> Floats:
    """(T,) the time since midnight as a fraction of the day."""
    if axis.dtype.kind == "M":
        return np.asarray((axis - axis.astype("datetime64[D]")) / np.timedelta64(1, "D"), np.float64)
    return np.asarray(seconds(axis) / 86400 % 1)


def year_fraction(axis: NDArray[Any]) -> Floats:
    """(T,) the time since the start of January as a fraction of the calendar's year."""
    if axis.dtype.kind == "M":
        start = axis.astype("datetime64[Y]")
        length = (start + 1).astype("datetime64[s]") - start.astype("datetime64[s]")
        return np.asarray((axis - start.astype("datetime64[s]")) / length, np.float64)
    calendar = calendar_of(axis)
    found = {year: _new_year(year, calendar) for one in axis for year in (one.year, one.year + 1)}
    starts = np.array([found[one.year] for one in axis])
    ends = np.array([found[one.year + 1] for one in axis])
    return np.asarray((seconds(axis) - starts) / (ends - starts))


def _new_year(year: int, calendar: str) -> float:
    return float(cftime.date2num(cftime.datetime(year, 1, 1, calendar=calendar), EPOCH, calendar))


def even_months(axis: NDArray[Any]) -> int:
    """The number of months from each date to the next; 0 where it varies, or dates are at different parts of months."""
    if len(axis) < 3:
        return 0
    months, part, same = _months(axis)
    steps = np.unique(np.diff(months))
    if len(steps) > 1 or steps[0] < 1 or not (same or np.ptp(part) <= _SAME_PART_OF_MONTH):
        return 0
    return int(steps[0])


def months_since_first(axis: NDArray[Any]) -> Floats:
    """(T,) months of the calendar since the first date."""
    months = _months(axis)[0]
    return np.asarray(months - months[0], np.float64)


def _months(axis: NDArray[Any]) -> tuple[NDArray[np.int64], Floats, bool]:
    """(T,) months, (T,) how far each date is into its month, and whether all are at the same day and time."""
    if axis.dtype.kind == "M":
        start = np.asarray(axis.astype("datetime64[M]"))
        into = (axis - start.astype("datetime64[s]")) / np.timedelta64(1, "s")
        length = ((start + 1).astype("datetime64[s]") - start.astype("datetime64[s]")) / np.timedelta64(
            1, "s"
        )
        return start.astype(np.int64), np.asarray(into / length), len(np.unique(into)) == 1
    months = np.array([12 * one.year + one.month for one in axis], np.int64)
    into = np.array([one.day - 1 for one in axis]) + day_fraction(axis)
    lengths = np.array([one.daysinmonth for one in axis])
    return months, np.asarray(into / lengths), len(np.unique(into)) == 1


def add_months(start: NDArray[Any], counted: Floats) -> NDArray[Any]:
    """(T,) the dates so many months of the calendar after a start (1,); fractions are of the month they end in.

    UDUNITS takes a month as a twelfth of 365.2425 days, but files that count in months mean those of the calendar.

    Raises:
        ValueError: the start is on a day that not every month has.
    """
    if int(text_of(start[0])[-11:-9]) > 28:
        raise ValueError(text_of(start[0]))
    whole = np.floor(counted).astype(np.int64)
    if start.dtype.kind == "M":
        first = start.astype("datetime64[M]")[0]
        begin = (first + whole).astype("datetime64[s]")
        length = ((first + whole + 1).astype("datetime64[s]") - begin) / np.timedelta64(1, "s")
        rest = (start[0].astype("datetime64[s]") - first.astype("datetime64[s]")) / np.timedelta64(1, "s")
        return np.asarray(begin + np.rint(rest + (counted - whole) * length).astype("timedelta64[s]"))
    one = start[0]
    calendar = calendar_of(start)
    found = []
    for count, part in zip(whole.tolist(), (counted - whole).tolist(), strict=True):
        month = one.month - 1 + count
        moved = cftime.datetime(
            one.year + month // 12,
            month % 12 + 1,
            one.day,
            one.hour,
            one.minute,
            one.second,
            calendar=calendar,
        )
        days = float(part) * moved.daysinmonth
        found.append(moved + np.timedelta64(round(days * 86400), "s").astype(object))
    return np.array(found, object)
