"""Regression frames: the linear regression of a store's training split, as forecasts of a plan.

Shapes: N frames, B forecasts, C channels, H rows, W columns, V variables that are forecast.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.baselines import Array
from pelagos.evaluation.forecast_plan import StartBatch, frames_in_split, is_steady
from pelagos.evaluation.linear_regression import HourlyMeans, LeastSquares, chosen_map, features
from pelagos.evaluation.streaming.frame_sources import Fields, StoredFrames, physical
from pelagos.evaluation.truth import channel_positions
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.variables import with_role

RADIUS = 1
_BLOCK = 1 << 14  # rows that are in memory at a time
_ROWS = 1 << 22  # rows that a map is fitted to at most; frames are then taken at even distances
_DAY = 24  # hours
_YEAR = 366 * 86400.0  # s


@dataclass(frozen=True, eq=False)
class RegressionFrames:
    """Forecasts by linear regression on all variables of a neighbourhood, fitted to a split.

    Attributes:
        stored: the frames of the store.
        split: that the maps are fitted to.
    """

    stored: StoredFrames
    split: str

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return self.stored.variables

    def describe(self) -> str:
        """What the regression is of."""
        before = ", the point a frame before" if self._before else ""
        hours = "anomalies from the mean of each hour" if self._dated else "anomalies from the mean"
        waves = ", harmonics of the local hour" if self._dated else ""
        year = " and of the year" if self._spans_years else ""
        penalties = " ".join(dict.fromkeys(f"{penalty:g}" for _, penalty in self._fits))
        return (
            f"ridge regression on {self._fits[0][0].shape[0]} features: {hours} of all prognostic fields in"
            f" {2 * RADIUS + 1} x {2 * RADIUS + 1} points{before}, forcings at the start and at the valid time"
            f"{waves}{year}; penalty {penalties}"
        )

    @property
    def _dated(self) -> bool:
        store = self.stored.store
        return store.dates is not None and store.grid.kind == "latlon"

    @cached_property
    def _inside(self) -> NDArray[np.bool_]:
        if is_steady(self.stored.store):
            raise DataError("baselines: regression is of fields that evolve in time; leave it out")
        return frames_in_split(self.stored.store, self.split)

    @cached_property
    def _before(self) -> bool:
        """Whether every start has a frame before it."""
        return min(self.stored.plan.starts) > 0

    @cached_property
    def _inputs(self) -> list[int]:
        """Channels of the state that is known at the start; a diagnostic field is not."""
        store = self.stored.store
        return channel_positions(store, with_role(store.variables, "prognostic"))

    @cached_property
    def _forcings(self) -> list[int]:
        store = self.stored.store
        return channel_positions(store, with_role(store.variables, "forcing"))

    @cached_property
    def _outputs(self) -> list[int]:
        return channel_positions(self.stored.store, self.stored.channels)

    def _read(self, trajectory: int, frames: NDArray[np.int64]) -> Array:
        """(N, C, H, W) anomalies of all channels."""
        fields = self.stored.store.take(trajectory, frames.tolist()).astype(np.float64)
        return self._means.anomalies(fields, self._hours(frames))

    def _hours(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self._dated:
            return np.zeros(len(frames), np.int64)
        return np.floor(self._seconds(frames) / 3600 + 1e-6).astype(np.int64) % _DAY

    def _seconds(self, frames: NDArray[np.int64]) -> Array:
        assert self.stored.store.dates is not None
        return dates.seconds(self.stored.store.dates.at(frames))

    @cached_property
    def _spans_years(self) -> bool:
        frames = np.flatnonzero(self._inside.any(axis=0))
        # Harmonics of a part of the year would be extrapolated into the rest.
        return self._dated and float(np.ptp(self._seconds(frames[[0, -1]]))) >= _YEAR

    @cached_property
    def _means(self) -> HourlyMeans:
        store, hours = self.stored.store, _DAY if self._dated else 1
        shape = (hours, len(store.variables), *store.grid.shape)
        sums, counts = np.zeros(shape), np.zeros(shape)
        squares = np.zeros(shape)
        for trajectory, frames in self._blocks(0):
            fields = store.take(trajectory, frames.tolist()).astype(np.float64)
            there = np.isfinite(fields)
            for hour, one, known in zip(self._hours(frames), fields, there, strict=True):
                value = np.where(known, one, 0.0) - store.stats.mean[:, None, None] * known
                sums[hour] += value
                squares[hour] += value**2
                counts[hour] += known
        mean = sums / np.where(counts > 0, counts, np.nan)
        overall = sums.sum(axis=0) / np.where(counts.sum(axis=0) > 0, counts.sum(axis=0), np.nan)
        if not self._dated:
            # The same everywhere: a mean that varies in space is no linear function of the fields around a point.
            points = np.maximum(counts.sum(axis=(0, 2, 3)), 1)
            overall = np.broadcast_to((sums.sum(axis=(0, 2, 3)) / points)[:, None, None], overall.shape)
            mean[:] = overall
        # An hour that never trained has the mean of all.
        mean = np.where(np.isnan(mean), overall, mean)
        spread = np.nansum(squares - counts * np.nan_to_num(mean) ** 2, axis=(0, 2, 3))
        std = np.sqrt(np.maximum(spread, 0.0) / np.maximum(counts.sum(axis=(0, 2, 3)), 1))
        floor = 1e-6 * store.stats.std
        mean = mean + store.stats.mean[:, None, None]
        return HourlyMeans(mean, np.where(std > floor, std, np.where(floor > 0, store.stats.std, 1.0)))

    def _blocks(self, ahead: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Trajectories and initial frames, so many at a time, with all that they need in the split."""
        inside, back = self._inside, int(self._before)
        points = int(np.prod(self.stored.store.grid.shape))
        every = max(1, int(inside.sum()) * points // _ROWS)
        size = max(1, _BLOCK // points)
        for trajectory, row in enumerate(inside):
            fits = row.copy()
            fits[len(row) - ahead :] = False
            fits[: len(row) - ahead] &= row[ahead:]
            if back and ahead:
                fits[0] = False
                fits[1:] &= row[:-1]
            initial = np.flatnonzero(fits)[::every]
            for start in range(0, len(initial), size):
                yield trajectory, initial[start : start + size]

    @cached_property
    def _fits(self) -> list[tuple[Array, float]]:
        """(F, V) the map of each lead time, and its penalty."""
        return [self._fit(step * self.stored.plan.stride) for step in range(1, self.stored.plan.steps + 1)]

    def _fit(self, ahead: int) -> tuple[Array, float]:
        blocks = list(self._blocks(ahead))
        early, late = LeastSquares(), LeastSquares()
        for number, (trajectory, initial) in enumerate(blocks):
            targets = self._read(trajectory, initial + ahead)[:, self._outputs]
            rows = np.moveaxis(targets, 1, -1).reshape(-1, len(self._outputs))
            # Which penalty serves what comes later is seen on the last fifth.
            part = late if 5 * number >= 4 * len(blocks) else early
            part.add(self._features(trajectory, initial, ahead), rows)
        if not early.rows + late.rows:
            raise DataError(
                f"baselines: regression: split {self.split} of {self.stored.store.path} has no frames {ahead} apart"
            )
        return chosen_map(early, late)

    def _features(self, trajectory: int, initial: NDArray[np.int64], ahead: int) -> Array:
        now = self._read(trajectory, initial)[:, self._inputs]
        before = self._read(trajectory, initial - 1)[:, self._inputs] if self._before else None
        known = self._waves(initial + ahead)
        if self._forcings:
            stats = self.stored.store.stats
            scale, mean = (one[self._forcings, None, None] for one in (stats.std, stats.mean))
            for frames in (initial, initial + ahead):
                fields = self.stored.store.take(trajectory, frames.tolist())[:, self._forcings]
                known.append((fields - mean) / scale)
        shape = (len(initial), 0, *self.stored.store.grid.shape)
        joined = np.concatenate(known, axis=1) if known else np.empty(shape)
        return features(now, before, joined, self.stored.store.grid, RADIUS)

    def _waves(self, frames: NDArray[np.int64]) -> list[Array]:
        """(N, 1, H, W) each: harmonics of the local hour, and of the year where the split has all of it."""
        if not self._dated:
            return []
        grid = self.stored.store.grid
        day = self._seconds(frames)[:, None] / 86400 + grid.x[None, :] / 360
        phases = [day, 2 * day]
        if self._spans_years:
            assert self.stored.store.dates is not None
            year = dates.year_fraction(self.stored.store.dates.at(frames))[:, None] + 0 * day
            phases += [year, 2 * year]
        waves = [function(2 * np.pi * phase) for phase in phases for function in (np.cos, np.sin)]
        shape = (len(frames), 1, *grid.shape)
        return [np.broadcast_to(wave[:, None, None, :], shape) for wave in waves]

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """What the maps give at each lead time; missing where the start is."""
        plan, store = self.stored.plan, self.stored.store
        for step, (coefficients, _) in enumerate(self._fits, 1):
            made = []
            for one in batch.samples:
                initial, ahead = np.array([one.start]), step * plan.stride
                rows = self._features(one.trajectory, initial, ahead) @ coefficients
                shape = (1, *store.grid.shape, len(self._outputs))
                anomalies = np.moveaxis(rows.reshape(shape), -1, 1)
                fields = self._means.restored(anomalies, self._hours(initial + ahead), self._outputs)
                missing = np.isnan(store.take(one.trajectory, [one.start])[:, self._outputs])
                made.append(np.where(missing, np.nan, fields)[0])
            yield physical(np.stack(made).astype(np.float32), self.stored.channels)
