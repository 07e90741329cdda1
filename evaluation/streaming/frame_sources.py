"""Frame sources: where frames come from, one lead time after the other: the truth, baselines, forecasts in memory.

A source keeps no frame that it has given. Shapes: B forecasts of a batch, V variables, H rows, W columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation import baselines
from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.forecast_plan import ForecastPlan, StartBatch, is_steady, lead_times
from pelagos.evaluation.forecast_schema import check_pair, ordered_fields, variable_names
from pelagos.evaluation.truth import channel_positions, empty_forecast, read_training
from pelagos.preprocessing import transform
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys

Fields = NDArray[Any]
AHEAD = 8
"""Frames of a forecast that are read from the store together: a server is asked once for all of them."""


class FrameSource(Protocol):
    """Gives the frames of any batch of a plan."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables, in the order of V."""
        ...

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """(B, V, H, W) physical fields at one lead time after the other."""
        ...


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """Frames of a store: the truth, and what forecasts start from."""

    store: Store
    plan: ForecastPlan
    channels: tuple[Variable, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return keys(self.channels)

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """The truth."""
        steps = [0] if is_steady(self.store) else range(1, self.plan.steps + 1)
        for first in range(0, len(steps), AHEAD):
            yield from self._read(batch, [step * self.plan.stride for step in steps[first : first + AHEAD]])

    def at(self, batch: StartBatch, frames: int) -> Fields:
        """(B, V, H, W) so many frames after the initial time, or before it where negative."""
        return next(iter(self._read(batch, [frames])))

    def _read(self, batch: StartBatch, offsets: Sequence[int]) -> Iterator[Fields]:
        channels = channel_positions(self.store, self.channels)
        rows: dict[tuple[int, int], Fields] = {}
        for one in batch.samples:  # all members have the same truth
            key = one.trajectory, one.start
            if key not in rows:
                rows[key] = self.store.take(one.trajectory, [one.start + offset for offset in offsets])
        for number in range(len(offsets)):
            frames = [rows[one.trajectory, one.start][number, channels] for one in batch.samples]
            yield physical(np.stack(frames), self.channels)


def physical(stored_BVHW: NDArray[np.float32], variables: Sequence[Variable]) -> Fields:
    """Stored to physical values, as forecasts are kept: see `transform.to_physical`."""
    return rounded(transform.to_physical(stored_BVHW, [one.transform for one in variables]), variables)


def rounded(fields_BVHW: Fields, variables: Sequence[Variable]) -> Fields:
    """The same fields with all variables in the precision that they are kept in."""
    if fields_BVHW.dtype == np.float32:
        return fields_BVHW
    for number, variable in enumerate(variables):
        # One variable in float64 makes the block float64; the others are float32 all the same.
        dtype = transform.physical_type(variable.transform)
        fields_BVHW[:, number] = fields_BVHW[:, number].astype(dtype)
    return fields_BVHW


@dataclass(frozen=True, eq=False)
class PersistenceFrames:
    """The initial frame at every lead time."""

    stored: StoredFrames

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return self.stored.variables

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """The initial frame, again and again."""
        initial_BVHW = self.stored.at(batch, 0)
        for _ in lead_times(self.stored.store, self.stored.plan):
            yield initial_BVHW


@dataclass(frozen=True, eq=False)
class ExtrapolationFrames:
    """The initial frame, changing on as it did in the step before it.

    Raises:
        DataError: the store has no frame a step before each start.
    """

    stored: StoredFrames

    def __post_init__(self) -> None:
        plan = self.stored.plan
        # Before anything is forecast: the earliest start may be in the last batch.
        if is_steady(self.stored.store) or min(plan.starts) < plan.stride:
            raise DataError(
                f"baselines: linear_extrapolation needs the frame {plan.stride} before each start, which"
                f" {self.stored.store.path} has not: leave it out, or see starts.first"
            )

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return self.stored.variables

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """x(0) + n (x(0) − x(−1)) after n steps, in float64."""
        plan = self.stored.plan
        initial_BVHW = self.stored.at(batch, 0).astype(np.float64)
        change_BVHW = initial_BVHW - self.stored.at(batch, -plan.stride)
        for step in range(1, plan.steps + 1):
            yield initial_BVHW + step * change_BVHW


@dataclass(frozen=True, eq=False)
class ClimatologyFrames:
    """The mean of the training split at the phase of each valid time."""

    stored: StoredFrames
    fitted: baselines.Climatology

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return self.stored.variables

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """The means of the hours of the day at each lead time."""
        store = self.stored.store
        means = [self.fitted.mean[name].transpose("phase", "y", "x").values for name in self.variables]
        starts = store.times[[one.start for one in batch.samples]]
        for lead in lead_times(store, self.stored.plan):
            phases = self.fitted.phases(starts + lead)
            yield np.stack([mean[phases] for mean in means], axis=1)


@dataclass(frozen=True, eq=False)
class StencilFrames:
    """The linear stencil, applied again and again."""

    stored: StoredFrames
    fitted: baselines.LinearStencil

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return self.fitted.variables

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """The stencil's frames, in float64."""
        times = lead_times(self.stored.store, self.stored.plan)
        initial_BVHW = self.stored.at(batch, 0).astype(np.float64)
        return self.fitted.frames(initial_BVHW, times, self.stored.store.grid)


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """Frames of forecasts in an xarray dataset, in memory or on disk, by their positions in the plan."""

    dataset: xr.Dataset
    plan: ForecastPlan

    @classmethod
    def of(
        cls, dataset: xr.Dataset, store: Store, plan: ForecastPlan, variables: Sequence[Variable]
    ) -> "LabelledFrames":
        """Forecasts of a plan.

        Raises:
            DataError: they don't have the coordinates of the plan and the store, or a variable that the truth lacks.
        """
        check_pair(dataset, empty_forecast(store, plan, variables))
        return cls(dataset, plan)

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the variables."""
        return variable_names(self.dataset)

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """The frames of a batch, read one lead time after the other."""
        chosen = self._chosen(batch)
        for number in range(self.dataset.sizes["lead_time"]):
            fields = [chosen[name].isel(lead_time=number).values for name in self.variables]
            yield np.stack(fields, axis=1)

    def _chosen(self, batch: StartBatch) -> xr.Dataset:
        axes: Mapping[str, tuple[int, ...]] = {
            "trajectory": self.plan.trajectories,
            "start": self.plan.starts,
            "member": self.plan.members,
        }
        dims = self.plan.sample_dims
        places = {
            dim: xr.DataArray([axes[dim].index(getattr(one, dim)) for one in batch.samples], dims="sample")
            for dim in dims
        }
        return ordered_fields(self.dataset.isel(places)).transpose("sample", "lead_time", "y", "x")


def baseline(name: BaselineName, stored: StoredFrames, training_split: str) -> FrameSource:
    """A baseline for a plan's forecasts, fitted to the training split where it needs to be.

    Raises:
        DataError: it cannot be fitted.
    """
    if name == "persistence":
        return PersistenceFrames(stored)
    if name == "linear_extrapolation":
        return ExtrapolationFrames(stored)
    # A stencil's step is the distance between its training frames, so these lie a forecast's step apart.
    stride = stored.plan.stride if name == "stencil" else 1
    training = read_training(stored.store, training_split, stride)[list(stored.variables)]
    if name == "climatology":
        return ClimatologyFrames(stored, baselines.Climatology.fit(training))
    return StencilFrames(stored, baselines.LinearStencil.fit(training))
