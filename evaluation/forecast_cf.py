"""Forecasts by the conventions of CF: what the file says of times, axes and fields, and the way back.

In memory lead times are numbers in the store's unit of time. On disk they are durations with units that every reader
knows, beside the dates of the initial and the valid times where the store has dates (CF 1.12, sections 4.4 and 5.7).
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation.forecast_schema import LEAD_TIME, SPACE
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.quantities.units import conversion

CONVENTIONS = "CF-1.12"
REFERENCE, VALID, INITIAL = "forecast_reference_time", "time", "initial_time"
_PLAIN = "coordinate_attributes"
"""The attribute of the group that keeps what the coordinates had in memory."""
_UNITS = {1.0: "seconds", 60.0: "minutes", 3600.0: "hours", 86400.0: "days"}
"""Units of durations by their seconds: xarray and cftime decode these spellings."""
_FINEST = 1e-6
"""The shortest duration that is written as one [s]: readers count in nanoseconds, which round what is shorter."""
_NAMES = {
    "trajectory": "number of the trajectory in the store",
    "start": "number of the frame that the forecast starts from",
    LEAD_TIME: "time since the start of the forecast",
    INITIAL: "time of the initial frame since the first frame of the store",
}


def to_cf(forecast: xr.Dataset) -> xr.Dataset:
    """A forecast as it is written: numbers with the attributes of CF, undecoded; fields are not touched.

    Raises:
        DataError: a date lies on a day that not every month has, and lead times are in months.
    """
    plain = {str(name): dict(forecast[name].attrs) for name in forecast.coords}
    coords = {str(name): _coordinate(forecast, str(name)) for name in forecast.coords}
    if REFERENCE in forecast.coords and (valid := _valid_times(forecast)) is not None:
        dims = (*forecast[REFERENCE].dims, LEAD_TIME)
        coords[VALID] = _dated(xr.Variable(dims, valid), VALID)
    auxiliary = " ".join(name for name in coords if name not in forecast.dims)
    fields = {name: field.variable.copy(deep=False) for name, field in forecast.data_vars.items()}
    for field in fields.values():
        field.attrs = field.attrs | ({"coordinates": auxiliary} if auxiliary else {})
    kept = json.dumps(plain, sort_keys=True)
    attrs = {"Conventions": CONVENTIONS, **forecast.attrs, _PLAIN: kept}
    # A dataset of variables: coordinates that are not decoded must not become an index of dates.
    return xr.Dataset({**fields, **coords}, attrs=attrs)


def from_cf(written: xr.Dataset) -> xr.Dataset:
    """The forecast that `to_cf` wrote, with the attributes and the units that it had in memory.

    Args:
        written: with its dates decoded, and its durations as numbers.
    """
    if _PLAIN not in written.attrs:
        return written  # earlier versions wrote what was in memory
    plain: Mapping[str, Any] = json.loads(written.attrs[_PLAIN])
    forecast = written.drop_vars([str(name) for name in written.coords if name not in plain])
    for name, attrs in plain.items():
        forecast[name].attrs = dict(attrs)
    added = {"Conventions", _PLAIN, "coordinates"}
    forecast.attrs = {name: value for name, value in written.attrs.items() if name not in added}
    return forecast


def _coordinate(forecast: xr.Dataset, name: str) -> xr.Variable:
    variable = forecast[name].variable.to_base_variable()
    if dates.is_dated(np.asarray(variable.values)):
        return _dated(variable, name)
    attrs = {"long_name": _NAMES[name]} if name in _NAMES else {}
    if name == "member":
        attrs = {"standard_name": "realization"}
    if name == LEAD_TIME:
        attrs["standard_name"] = "forecast_period"
    if name in (LEAD_TIME, INITIAL):
        attrs |= duration_attrs(variable.values, str(variable.attrs.get("units", "1")))
    if name in SPACE:
        attrs = _axis_attrs(name, forecast)
    return variable.copy(deep=False)._replace(attrs=variable.attrs | attrs)


def _axis_attrs(name: str, forecast: xr.Dataset) -> dict[str, str]:
    if forecast.attrs.get("grid") != "latlon":
        return {"axis": name.upper(), "long_name": f"coordinate along {name}"}
    standard, units = ("latitude", "degrees_north") if name == "y" else ("longitude", "degrees_east")
    return {"axis": name.upper(), "standard_name": standard, "units": units}


def _dated(variable: xr.Variable, name: str) -> xr.Variable:
    values = np.asarray(variable.values)
    attrs = {
        "standard_name": name,
        "long_name": {REFERENCE: "date of the initial frame", VALID: "date that the forecast is for"}[name],
        "units": dates.EPOCH,
        "calendar": dates.calendar_of(values),
    }
    return xr.Variable(variable.dims, dates.seconds(values).astype(np.int64), attrs)


def duration_attrs(values: NDArray[Any], units: str) -> dict[str, str]:
    """The units of durations, spelt so that xarray decodes them; as they are where it cannot, as of months."""
    seconds = _seconds_of(units)
    if seconds not in _UNITS:
        return {"units": units}
    counted = np.abs(np.asarray(values, np.float64)) * seconds
    if np.any((counted > 0) & (counted < _FINEST)):
        return {"units": "s"}  # which readers leave as a number
    whole = bool(np.all(counted == np.rint(counted)))
    # Named, or xarray warns that it will stop to guess; seconds reach beyond the 292 years of nanoseconds.
    return {"units": _UNITS[seconds], "dtype": f"timedelta64[{'s' if whole else 'ns'}]"}


def _seconds_of(units: str) -> float | None:
    try:
        return conversion(units, "s")[0]
    except ConfigError:
        return None


def _valid_times(forecast: xr.Dataset) -> NDArray[Any] | None:
    """(start, lead_time) dates that forecasts are for; None where lead times are of no unit that dates count in."""
    starts, lead = forecast[REFERENCE].values, forecast[LEAD_TIME]
    units = str(lead.attrs.get("units", "1"))
    if units == "months":
        return np.stack([dates.add_months(starts[one : one + 1], lead.values) for one in range(len(starts))])
    seconds = _seconds_of(units)
    if seconds is None:
        return None
    counted = dates.seconds(starts)[:, None] + np.rint(lead.values * seconds)[None, :]
    found = dates.from_seconds(counted.reshape(-1), starts)
    return found.reshape(counted.shape)
