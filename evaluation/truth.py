"""What a store holds for a plan of forecasts: initial frames, the truth, and frames to fit baselines to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation.forecast_plan import ForecastPlan, frames_in_split, is_steady, lead_times
from pelagos.preprocessing import transform
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.store.xarray_view import xarray_view
from pelagos.preprocessing.variables import Variable, keys

Fields = NDArray[Any]
"""Physical values: float32, or float64 where a variable needs it (see `transform.physical_type`)."""


def read_truth(store: Store, plan: ForecastPlan, variables: Sequence[Variable]) -> xr.Dataset:
    """(trajectory, start, lead_time, y, x) what the forecasts of a plan should have been."""
    values = _read_frames(store, plan, variables, _true_offsets(store, plan))
    # All members have the same truth.
    return as_forecast(store, replace(plan, members=()), variables, values)


def truth_view(store: Store, plan: ForecastPlan, variables: Sequence[Variable]) -> xr.Dataset:
    """(lead_time, y, x) what the first forecast of a plan should have been; nothing is read until it is used."""
    template = empty_forecast(store, plan, variables).isel(trajectory=0, start=0)
    times = [plan.starts[0] + offset for offset in _true_offsets(store, plan)]
    stored = xarray_view(store).isel(trajectory=plan.trajectories[0], time=times)
    for one in variables:
        field = stored[one.name] if one.level is None else stored[one.name].sel(level=one.level)
        values = field.transpose("time", "y", "x").drop_vars(list(field.coords)).rename(time="lead_time")
        values.attrs = template[one.key].attrs
        template[one.key] = values
    return template


def _true_offsets(store: Store, plan: ForecastPlan) -> list[int]:
    """How many frames after its start the truth of each step of a forecast lies."""
    return [0] if is_steady(store) else [plan.stride * step for step in range(1, plan.steps + 1)]


def read_initial(store: Store, plan: ForecastPlan, variables: Sequence[Variable]) -> xr.Dataset:
    """(trajectory, start, y, x) frames that the forecasts of a plan start from."""
    values = _read_frames(store, plan, variables, [0])
    single = ForecastPlan(plan.trajectories, plan.starts, plan.stride, 1)
    return as_forecast(store, single, variables, values).isel(lead_time=0, drop=True)


def read_training(store: Store, split: str, stride: int) -> xr.Dataset:
    """(trajectory, time, y, x) frames of a split, `stride` apart; they are read when they are asked for.

    Raises:
        DataError: the store has no such split, or its trajectories have no frame in common.
    """
    inside = frames_in_split(store, split)
    members = np.flatnonzero(inside.any(axis=1))
    frames = np.flatnonzero(inside[members].all(axis=0))[::stride]
    if len(frames) == 0:
        raise DataError(f"{store.path}: the trajectories of split {split!r} share no frame")
    fields = xarray_view(store)
    return fields.isel(trajectory=members, time=frames).assign_coords(time=store.times[frames])


def empty_forecast(store: Store, plan: ForecastPlan, variables: Sequence[Variable]) -> xr.Dataset:
    """The forecasts of a plan without their values: NaN that takes no memory, see `forecast_schema`."""
    dims, leads, grid = (*plan.sample_dims, "lead_time", "y", "x"), lead_times(store, plan), store.grid
    missing = np.full(1, np.nan, np.float32)
    fields = {
        variable.key: (
            dims,
            np.broadcast_to(
                missing.astype(transform.physical_type(variable.transform)),
                (*plan.sample_shape, len(leads), *grid.shape),
            ),
            {"units": variable.units, "group": variable.score_group, "long_name": variable.long_name},
        )
        for variable in variables
    }
    starts = np.array(plan.starts)
    coordinates: dict[str, Any] = {
        "trajectory": np.array(plan.trajectories),
        "start": starts,
        **({"member": np.array(plan.members)} if plan.members else {}),
        "lead_time": ("lead_time", leads, {"units": store.time_units}),
        "y": ("y", grid.y, {"units": grid.units}),
        "x": ("x", grid.x, {"units": grid.units}),
        # A climatology by hour of the day asks for the valid time, initial_time + lead_time.
        "initial_time": ("start", store.times[starts], {"units": store.time_units}),
    }
    if store.dates is not None:
        coordinates["forecast_reference_time"] = ("start", store.dates.at(starts))
    return xr.Dataset(fields, coordinates, {"dataset": store.dataset, **grid.to_attrs()})


def as_forecast(
    store: Store, plan: ForecastPlan, variables: Sequence[Variable], values: Fields
) -> xr.Dataset:
    """(trajectory, start, [member,] lead_time, channel, y, x) physical values as a forecast, see `forecast_schema`."""
    template = empty_forecast(store, plan, variables)
    # One channel in float64 makes the block float64; the others are float32 all the same.
    return template.assign(
        {
            key: template[key].copy(data=values[..., channel, :, :].astype(template[key].dtype, copy=False))
            for channel, key in enumerate(keys(variables))
        }
    )


def _read_frames(
    store: Store, plan: ForecastPlan, variables: Sequence[Variable], offsets: Sequence[int]
) -> Fields:
    """(trajectory, start, frame, channel, y, x) physical values so many frames after each start."""
    channels = channel_positions(store, variables)
    rows = [
        store.take(trajectory, [start + offset for offset in offsets])[:, channels]
        for trajectory in plan.trajectories
        for start in plan.starts
    ]
    values = transform.to_physical(np.stack(rows), [variable.transform for variable in variables])
    return values.reshape(len(plan.trajectories), len(plan.starts), *rows[0].shape)


def channel_positions(store: Store, variables: Sequence[Variable]) -> list[int]:
    """Where the variables are among the channels of the store's state.

    Raises:
        DataError: one of them is not there.
    """
    return _positions(store, "fields in time", store.variables, variables)


def static_fields(store: Store, trajectory: int, variables: Sequence[Variable]) -> Fields:
    """(C, H, W) static fields of one trajectory as stored, in the order of the variables.

    Raises:
        DataError: one of them is not there.
    """
    if not variables:
        return np.empty((0, *store.grid.shape), np.float32)
    return store.static(trajectory)[_positions(store, "static fields", store.static_variables, variables)]


def _positions(store: Store, kind: str, there: Sequence[Variable], wanted: Sequence[Variable]) -> list[int]:
    order = keys(there)
    if missing := [key for key in keys(wanted) if key not in order]:
        raise DataError(
            f"{store.path} lacks the {kind} {', '.join(missing)}, which the model has; it has {', '.join(order)}"
        )
    return [order.index(key) for key in keys(wanted)]


def scalar_values(store: Store, trajectory: int, names: Sequence[str]) -> NDArray[np.float64]:
    """(S,) parameters of one trajectory in the order of the names, NaN where it has none."""
    values = dict(zip(store.params, store.scalars(trajectory), strict=True))
    return np.array([values.get(name, np.nan) for name in names], dtype=np.float64)
