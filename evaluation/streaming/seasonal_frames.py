"""Seasonal frames: the climatology by day of the year and time of day, at the valid times of a plan's forecasts."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.forecast_plan import StartBatch, frames_in_split, is_steady
from pelagos.evaluation.seasonal_climatology import SeasonalClimatology, slots_of
from pelagos.evaluation.streaming.frame_sources import Fields, StoredFrames, physical
from pelagos.evaluation.truth import channel_positions
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.store.xarray_view import xarray_view


def dates_of(store: Store) -> NDArray[Any] | None:
    """(T,) the dates of a store's frames; None where its times are no dates."""
    times: NDArray[Any] = xarray_view(store)["time"].values
    return times if dates.is_dated(times) else None


@dataclass(frozen=True, eq=False)
class SeasonalFrames:
    """The mean over the years of the training split and the days around each valid time.

    Attributes:
        stored: the frames of the store.
        split: that the means are taken of.
        window: days around a day that count.
    """

    stored: StoredFrames
    split: str
    window: int = 61

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return self.stored.variables

    @cached_property
    def _dates(self) -> NDArray[Any]:
        return np.asarray(xarray_view(self.stored.store)["time"].values)

    @cached_property
    def climatology(self) -> SeasonalClimatology:
        """The means at all valid times of the plan.

        Raises:
            DataError: the store's times are no dates, or the split is empty.
        """
        plan = self.stored.plan
        valid = {frame for start in plan.starts for frame in self._frames(start)}
        wanted = slots_of(self._dates[sorted(valid)])
        return SeasonalClimatology.fit(self._training(), wanted, self.window)

    def _frames(self, start: int) -> list[int]:
        plan = self.stored.plan
        steps = [0] if is_steady(self.stored.store) else range(1, plan.steps + 1)
        return [start + step * plan.stride for step in steps]

    def _training(self) -> Iterator[tuple[Any, Fields]]:
        store, channels = self.stored.store, self.stored.channels
        positions = channel_positions(store, channels)
        for trajectory, inside in enumerate(frames_in_split(store, self.split)):
            for frame in np.flatnonzero(inside).tolist():
                fields = store.take(trajectory, [frame])[:, positions]
                yield self._dates[frame], physical(fields, channels)[0]

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """The means at each lead time."""
        starts = [self._frames(one.start) for one in batch.samples]
        for frames in zip(*starts, strict=True):
            yield self.climatology.at(self._dates[list(frames)])
