"""Forecasts of a dataset in memory, which come back as one."""

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation.forecast_cf import to_cf
from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.forecast_schema import LEAD_TIME
from pelagos.pipeline.forecasting.archive_store import dataset_store
from pelagos.pipeline.forecasting.ensemble import EnsembleConfig, OtherStarts
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecast_data import dataset_name, with_members
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.plain_dataset import in_convention, member_count
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs.model_folder import Model


def forecast_dataset(
    model: Model,
    start: xr.Dataset,
    steps: int,
    *,
    dataset: str = "",
    step: float | None = None,
    forcings: xr.Dataset | None = None,
    ensemble: EnsembleConfig | None = None,
    mode: Mode = "rollout",
    **options: Any,
) -> xr.Dataset:
    """Forecasts from the last frame of a dataset: (trajectory, start, [member,] lead_time, y, x), by CF.

    Args:
        model: makes them.
        start: fields by the names that the model knows, over ([trajectory, member, time, level,] y, x) or latitudes
            and longitudes; members are kept.
        steps: how many.
        dataset: the name by which the model knows the data; needed where it knows several datasets.
        step: time from one frame to the next, in the model's unit of time, where `start` has a single frame; the
            shortest lead time trained by default.
        forcings: fields beyond those of `start`, or of later times.
        ensemble: several forecasts from each start.
        mode: the strategy.
        options: of `Forecaster`: batch, threads.

    Raises:
        DataError: `start` lacks what the model needs, or a forcing is not known for all steps.
        ConfigError: an option contradicts the data.
    """
    name = dataset_name([model], dataset)
    domain = model.domain(name)
    store = dataset_store(in_convention(start, domain, name), domain, name, step=step)
    other = None
    if forcings is not None:
        other = dataset_store(in_convention(forcings, domain, name), domain, name, step=step)
    if (members := member_count(start)) and ensemble is None:
        ensemble = EnsembleConfig(members=members, starts=OtherStarts())
    plan = replace(StartsConfig(at=("last",)).plan(store, verified=False), steps=steps)
    if ensemble is not None:
        plan = with_members(plan, store, ensemble, 1)
    supply = ForcingSupply(store, other)
    forecaster = Forecaster(model, store, mode, supply=supply, ensemble=ensemble, **options)
    return _decoded(to_cf(forecaster.forecast(plan)))


def _decoded(forecast: xr.Dataset) -> xr.Dataset:
    """Dates and durations in place of numbers since and of."""
    # An index is read-only, and xarray turns fractions of a second into whole numbers in place.
    counted = xr.Variable(LEAD_TIME, np.array(forecast[LEAD_TIME]), forecast[LEAD_TIME].attrs)
    lead = xr.conventions.decode_cf_variable(LEAD_TIME, counted, decode_timedelta=True)
    return xr.decode_cf(forecast.drop_vars(LEAD_TIME)).assign_coords({LEAD_TIME: lead})
