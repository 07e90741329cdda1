"""Fields that follow from time and place alone: the sun's position and radiation, and where a cell lies."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.fields.insolation import insolation, mean_insolation
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.variables import Variable

Times = NDArray[Any]  # dates of any calendar
Clock = Callable[[Times, Grid, float], Floats]
ForcingName = Literal[
    "cos_local_time",
    "sin_local_time",
    "cos_year",
    "sin_year",
    "insolation",
    "mean_insolation",
    "mean_insolation_ahead",
]
PlaceName = Literal["sin_latitude", "cos_latitude", "sin_longitude", "cos_longitude", "cell_area"]


def local_time(times: Times, grid: Grid, _step: float) -> Floats:
    """(T, 1, W) mean local solar time as a fraction of the day, 0 at midnight: an hour for 15 degrees of longitude."""
    return np.asarray((dates.day_fraction(times)[:, None, None] + grid.x[None, None, :] / 360) % 1)


def year_fraction(times: Times, grid: Grid, _step: float) -> Floats:
    """(T, 1, 1) the time as a fraction of its calendar year, 0 at the start of January."""
    return dates.year_fraction(times)[:, None, None]


# Cosine and sine of an angle: the time itself would jump at midnight and at the turn of the year.
def _wave(function: Callable[[Floats], Floats], clock: Clock) -> Clock:
    def values(times: Times, grid: Grid, step: float) -> Floats:
        phase = function(2 * np.pi * clock(times, grid, step))
        return np.broadcast_to(phase, (len(times), *grid.shape))

    return values


def _days(times: Times) -> Floats:
    """(T,) days after 2000-01-01 12:00; in a calendar of other years, those into the season of 2001."""
    if dates.calendar_of(times) in ("standard", "gregorian", dates.STANDARD):
        return dates.seconds(times) / 86400 - 10957.5
    return 365.5 + 365.2422 * dates.year_fraction(times)


def _insolation(times: Times, grid: Grid, _step: float) -> Floats:
    return insolation(_days(times), dates.day_fraction(times), grid.y, grid.x)


def _mean_insolation(times: Times, grid: Grid, step: float) -> Floats:
    if not step:
        return _insolation(times, grid, step)
    return mean_insolation(_days(times), dates.day_fraction(times), grid.y, grid.x, step)


def _mean_insolation_ahead(times: Times, grid: Grid, step: float) -> Floats:
    if not step:
        return _insolation(times, grid, step)
    days = step / 86400
    return mean_insolation(_days(times) + days, dates.day_fraction(times) + days, grid.y, grid.x, step)


FORCINGS: dict[ForcingName, Clock] = {
    "cos_local_time": _wave(np.cos, local_time),
    "sin_local_time": _wave(np.sin, local_time),
    "cos_year": _wave(np.cos, year_fraction),
    "sin_year": _wave(np.sin, year_fraction),
    "insolation": _insolation,
    "mean_insolation": _mean_insolation,
    "mean_insolation_ahead": _mean_insolation_ahead,
}
"""Functions from times (T,), a grid in degrees and the time between frames [s] to values (T, H, W)."""


_PERIODS: dict[ForcingName, str] = {
    "insolation": "",
    "mean_insolation": " over the time from the frame before",
    "mean_insolation_ahead": " over the time to the frame after",
}


def forcing_bound(name: ForcingName) -> float:
    """What no value of a computed forcing is beyond, in its units."""
    return 1500.0 if name in _PERIODS else 1.0  # the solar constant is 1361 W m-2, 3.4 % more at perihelion


def place_field(name: PlaceName, grid: Grid) -> Floats:
    """(H, W) a static field that follows from the grid: the area of a cell is that of its share of the mean."""
    if name == "cell_area":
        return grid.area_weights()
    function, _, axis = name.partition("_")
    angles = np.deg2rad(grid.y[:, None] if axis == "latitude" else grid.x[None, :])
    return np.broadcast_to((np.sin if function == "sin" else np.cos)(angles), grid.shape)


def place_variable(name: PlaceName) -> Variable:
    """The variable that a field of places is stored as."""
    function, _, axis = name.partition("_")
    meaning = "cell area in units of the mean" if name == "cell_area" else f"{function} of {axis}"
    return Variable(name=name, role="static", long_name=meaning)


def time_between(times: Times) -> float:
    """The mean time from one date to the next [s]; 0 of a single one."""
    return float(np.diff(dates.seconds(times)).mean()) if len(times) > 1 else 0.0


def forcing_variable(name: ForcingName) -> Variable:
    """The variable that a computed forcing is stored as."""
    if name in _PERIODS:
        long_name = f"radiation of the sun at the top of the atmosphere{_PERIODS[name]}"
        return Variable(name=name, units="W m-2", role="forcing", long_name=long_name)
    function, _, clock = name.partition("_")
    long_name = f"{function} of {clock.replace('_', ' ')}"
    return Variable(name=name, role="forcing", group=clock, long_name=long_name)
