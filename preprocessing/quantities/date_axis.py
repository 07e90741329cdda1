"""Date axis: the dates of frames at an even distance, those that a store holds and those beyond its ends."""

from dataclasses import dataclass
from typing import Any, Self

import cftime
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.quantities import dates


@dataclass(frozen=True, eq=False)
class DateAxis:
    """The dates of frames, which lie the same number of seconds or of months of the calendar apart.

    Attributes:
        seconds: (T,) of the frames that there are, since the start of 1970 in the calendar.
        calendar: as CF spells it.
        months: from one frame to the next; 0 where they are evenly spaced in seconds.
    """

    seconds: Floats
    calendar: str
    months: int = 0

    @classmethod
    def of(cls, axis: NDArray[Any], months: int = 0) -> Self:
        """The axis of these dates."""
        return cls(dates.seconds(axis), dates.calendar_of(axis), months)

    def at(self, frames: Ints) -> NDArray[Any]:
        """The dates of frames, by their numbers, which may be negative or beyond the last.

        Raises:
            DataError: the axis has one frame, so that there is no distance to count by.
        """
        inside = (frames >= 0) & (frames < len(self.seconds))
        held = self._dates(self.seconds[np.where(inside, frames, 0)])
        if inside.all():
            return held
        if len(self.seconds) < 2:
            raise DataError("one frame has no distance to the next: its dates cannot be continued")
        return np.where(inside, held, self._beyond(frames))

    def frame(self, text: str) -> int:
        """The number of the frame at a date in ISO's form.

        Raises:
            ValueError: the text is no date of the calendar, or there is no frame then.
        """
        wanted = dates.seconds(np.array([dates.parse(text, self._like)], self._like.dtype))[0]
        (found,) = np.nonzero(self.seconds == wanted)
        if not len(found):
            raise ValueError(text)
        return int(found[0])

    def _beyond(self, frames: Ints) -> NDArray[Any]:
        if self.months:
            first = self._dates(self.seconds[:1])
            flat = dates.add_months(first, (frames.reshape(-1) * self.months).astype(np.float64))
            return flat.reshape(frames.shape)
        step = (self.seconds[-1] - self.seconds[0]) / (len(self.seconds) - 1)
        return self._dates(np.rint(self.seconds[0] + step * frames))

    @property
    def _like(self) -> NDArray[Any]:
        if self.calendar == dates.STANDARD:
            return np.zeros(1, "datetime64[s]")
        return np.array([cftime.datetime(1970, 1, 1, calendar=self.calendar)], object)

    def _dates(self, counted: Floats) -> NDArray[Any]:
        return dates.from_seconds(counted, self._like)
