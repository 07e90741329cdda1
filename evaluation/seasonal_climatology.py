"""Seasonal climatology: the mean of a training split by day of the year and time of day, as anomalies are taken from.

As in WeatherBench 2 (Rasp et al., 2024) a day's mean takes in the days around it, with weights that fall linearly to
zero. Only the days and times that are asked for are kept, since all of a year would be as large as the data of one.

Shapes: V variables, H rows, W columns, K slots: days of the year with times of day.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.quantities import dates

Slot = tuple[int, int]
"""Day of the year, from 1, and second of the day."""
_DAY = 86400


def slots_of(times: NDArray[Any]) -> list[Slot]:
    """The slot of each date, in the calendar of the dates.

    Raises:
        DataError: the times are no dates.
    """
    if not dates.is_dated(times):
        raise DataError("a climatology by day of the year needs dates, and these times are plain numbers")
    seconds = np.rint(dates.seconds(times)).astype(np.int64) % _DAY
    return list(zip(_days(times).tolist(), seconds.tolist(), strict=True))


def _days(times: NDArray[Any]) -> Ints:
    if times.dtype.kind == "M":
        first = times.astype("datetime64[Y]").astype("datetime64[D]")
        return np.asarray((times.astype("datetime64[D]") - first).astype(np.int64) + 1)
    return np.array([one.dayofyr for one in times], np.int64)


def days_apart(day: int, others: Ints) -> Ints:
    """Days between days of the year, the short way round; the 366th day stands beside the first."""
    apart = np.abs(others - day) % 366
    return np.asarray(np.minimum(apart, 366 - apart))


@dataclass(frozen=True, eq=False)
class SeasonalClimatology:
    """Means of slots.

    Attributes:
        slots: which there are, in the order of K.
        mean: (K, V, H, W); NaN where the training split has nothing near enough.
        window: days that a mean takes in.
    """

    slots: tuple[Slot, ...]
    mean: Floats
    window: int

    @classmethod
    def fit(
        cls, frames: Iterable[tuple[Any, NDArray[Any]]], wanted: Iterable[Slot], window: int = 61
    ) -> "SeasonalClimatology":
        """Average training frames, one at a time, over years and the days around each slot.

        Args:
            frames: date and (V, H, W) field of each, in any order; missing values are left out.
            wanted: slots to know.
            window: days that a mean takes in, odd; 1 for the day itself alone.

        Raises:
            DataError: there is no training frame.
        """
        assert window % 2 == 1, "a window has a day in its middle"
        slots = tuple(dict.fromkeys(wanted))
        days, times = (np.array(part, np.int64) for part in zip(*slots, strict=True))
        sums = weights = np.zeros(0)
        for date, field in frames:
            if not sums.size:
                sums, weights = (np.zeros((len(slots), *field.shape)) for _ in range(2))
            ((day, second),) = slots_of(np.asarray([date]))
            shares = np.where(times == second, _shares(days_apart(day, days), window), 0.0)
            values, valid = np.nan_to_num(field.astype(np.float64)), ~np.isnan(field)
            for slot in np.flatnonzero(shares):
                sums[slot] += shares[slot] * values
                weights[slot] += shares[slot] * valid
        if not sums.size:
            raise DataError("a climatology needs training frames, and there are none")
        with np.errstate(invalid="ignore"):
            return cls(slots, sums / np.where(weights > 0, weights, np.nan), window)

    def at(self, times: NDArray[Any]) -> Floats:
        """(T, V, H, W) the means at these dates.

        Raises:
            KeyError: a date's slot was not asked for when the climatology was fitted.
        """
        places = {slot: place for place, slot in enumerate(self.slots)}
        return self.mean[[places[slot] for slot in slots_of(times)]]


def _shares(apart: Ints, window: int) -> Floats:
    """1 on the day itself, falling linearly to 0 at half the window."""
    half = window // 2
    return np.maximum(1 - apart / half, 0.0) if half else (apart == 0).astype(np.float64)
