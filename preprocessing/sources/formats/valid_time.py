"""Valid times: the dates that fields are valid at, where a file gives the start of a forecast and a lead time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.quantities import dates

DateKind = Literal["start", "valid"]

_LEAD_TIMES = ("prediction_timedelta", "step", "lead_time", "leadtime", "lead", "forecast_period")
_STARTS = ("forecast_reference_time", "reference_time", "init_time", "initial_time", "init", "start_time")
_PER_HOUR: Mapping[str, float] = {
    "hours": 1,
    "hour": 1,
    "hr": 1,
    "h": 1,
    "minutes": 60,
    "minute": 60,
    "min": 60,
    "seconds": 3600,
    "second": 3600,
    "s": 3600,
    "days": 1 / 24,
    "day": 1 / 24,
    "d": 1 / 24,
    "milliseconds": 3.6e6,
    "microseconds": 3.6e9,
    "nanoseconds": 3.6e12,  # xarray stores timedelta64 in these
}


def is_lead_time(ds: xr.Dataset, name: str | None) -> bool:
    """Whether a dimension or variable counts from the start of a forecast."""
    if name in _LEAD_TIMES:
        return True
    return name in ds.variables and ds.variables[name].attrs.get("standard_name") == "forecast_period"


def in_hours(path: Path | Url, lead_times: xr.Variable) -> xr.Variable:
    """Lead times in hours; raises DataError where their unit is not known."""
    unit = str(lead_times.attrs.get("units", "")).split(" ")[0]
    if unit not in _PER_HOUR:
        raise DataError(f"{path}: lead times are in '{unit}'; {', '.join(_PER_HOUR)} are known")
    return xr.Variable(("time",), lead_times.values / _PER_HOUR[unit], {"units": "h"})


def say_forecasts(path: Path | Url, starts: xr.Variable | None, lead_times: xr.Variable) -> None:
    """Say that the steps of forecasts become the times of trajectories, which keep the dates they start at."""
    if starts is None or not dates.is_dated(starts.values) or not lead_times.size:
        return
    first, last = (dates.text_of(one)[:-3] for one in starts.values[[0, -1]])
    runs = f"the forecast from {first} became a trajectory"
    if starts.size > 1:
        runs = f"{starts.size} forecasts from {first} to {last} became a trajectory each"
    ends = f"{lead_times.values[0]:g} to {lead_times.values[-1]:g} h"
    text = f"{path}: {runs} over the lead times {ends}; a frame is valid at the start plus its lead time"
    assume("times", "time", text, "accept: [times]")


def valid_dates(
    path: Path | Url, ds: xr.Dataset, name: str, axis: NDArray[Any], kind: DateKind | None
) -> NDArray[Any]:
    """The dates at which the fields of a file are valid.

    Fields of one fixed lead time, such as the 6 h forecasts beside analyses, are valid later than their start. Stored
    under their start, they would show a network the future.

    Args:
        path: of the file, for messages.
        ds: the file.
        name: of its dimension or scalar coordinate of dates.
        axis: its values.
        kind: what these are, where the user says it.

    Raises:
        DataError: lead times stand beside the dates, and nothing says whether these are starts.
    """
    stored = ds.variables[name]
    standard = stored.attrs.get("standard_name")
    if not dates.is_dated(axis) or kind == "valid" or (standard == "time" and kind is None):
        return axis
    named = _valid_times(ds, name, len(axis)) if kind is None else None
    if named is not None and (named == axis).all():
        return axis
    if named is not None:
        _say_moved(path, name, axis, named)
        return named
    leads = _lead_times(path, ds, name, len(axis))
    if leads is None or not leads.any():
        return axis
    if kind is None and standard != "forecast_reference_time" and name not in _STARTS:
        raise DataError(
            f"{path}: are the dates in {name} the starts of forecasts, or when fields are valid? A lead time of"
            f" {leads[0]:g} h stands beside them; set dates: start (they are moved by it) or dates: valid"
        )
    if axis.dtype.kind == "M":
        moved = axis + (leads * 3.6e12).round().astype("timedelta64[ns]")
    else:
        moved = dates.from_seconds(np.rint(dates.seconds(axis) + 3600 * leads), axis)
    if kind is None:
        _say_moved(path, name, axis, moved)
    return np.asarray(moved)


def _say_moved(path: Path | Url, name: str, starts: NDArray[Any], valid: NDArray[Any]) -> None:
    text = f"{path}: forecasts of one lead time, dated by when they are valid: {dates.text_of(valid[0])} for the start"
    assume("times", name, f"{text} at {dates.text_of(starts[0])}", "set source.dates: start, or valid")


def _valid_times(ds: xr.Dataset, name: str, count: int) -> NDArray[Any] | None:
    """The variable of valid times along the same dimension, if the file has one."""
    for key, found in ds.variables.items():
        says = found.attrs.get("standard_name") == "time" or key in ("valid_time", "validity_time")
        if key != name and says and dates.is_dated(found.values) and _alongside(found, name, count):
            return np.broadcast_to(np.ravel(found.values), count)
    return None


def _lead_times(path: Path | Url, ds: xr.Dataset, name: str, count: int) -> NDArray[np.float64] | None:
    """The lead time of each date in hours, if the file states any that is fixed for a date."""
    for key, found in ds.variables.items():
        if is_lead_time(ds, str(key)) and _alongside(found, name, count) and _is_duration(found):
            hours = in_hours(
                path, xr.Variable(("time",), np.ravel(found.values).astype(np.float64), found.attrs)
            )
            if not np.isfinite(hours.values).all():
                raise DataError(
                    f"{path}: {key} has missing lead times; the lead time of each date would be right"
                )
            return np.broadcast_to(hours.values, count)
    return None


def _is_duration(stored: xr.Variable) -> bool:
    """Whether a variable called `step` counts time, and not iterations."""
    unit = str(stored.attrs.get("units", "")).split(" ")[0]
    return unit in _PER_HOUR or stored.attrs.get("standard_name") == "forecast_period"


def _alongside(variable: xr.Variable, name: str, count: int) -> bool:
    return variable.size == 1 or (variable.dims == (name,) and variable.size == count)
