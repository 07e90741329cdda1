"""Forcings that follow from time and place alone: the sun's position in its day and its year."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.variables import Variable

Times = NDArray[Any]  # dates of any calendar
Clock = Callable[[Times, Grid], Floats]
ForcingName = Literal["cos_local_time", "sin_local_time", "cos_year", "sin_year"]


def local_time(times: Times, grid: Grid) -> Floats:
    """(T, 1, W) mean local solar time as a fraction of the day, 0 at midnight: an hour for 15 degrees of longitude."""
    return np.asarray((dates.day_fraction(times)[:, None, None] + grid.x[None, None, :] / 360) % 1)


def year_fraction(times: Times, grid: Grid) -> Floats:
    """(T, 1, 1) the time as a fraction of its calendar year, 0 at the start of January."""
    return dates.year_fraction(times)[:, None, None]


# Cosine and sine of an angle: the time itself would jump at midnight and at the turn of the year.
def _wave(function: Callable[[Floats], Floats], clock: Clock) -> Clock:
    def values(times: Times, grid: Grid) -> Floats:
        phase = function(2 * np.pi * clock(times, grid))
        return np.broadcast_to(phase, (len(times), *grid.shape))

    return values


FORCINGS: dict[ForcingName, Clock] = {
    "cos_local_time": _wave(np.cos, local_time),
    "sin_local_time": _wave(np.sin, local_time),
    "cos_year": _wave(np.cos, year_fraction),
    "sin_year": _wave(np.sin, year_fraction),
}
"""Functions from times (T,) and a grid in degrees to values (T, H, W)."""


def forcing_variable(name: ForcingName) -> Variable:
    """The variable that a computed forcing is stored as."""
    function, _, clock = name.partition("_")
    long_name = f"{function} of {clock.replace('_', ' ')}"
    return Variable(name=name, role="forcing", group=clock, long_name=long_name)
