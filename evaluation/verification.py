"""Verification: forecasts and baselines held against the truth, and their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from pelagos.evaluation import baselines, scores
from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.score_summary import summarise
from pelagos.evaluation.truth import read_initial, read_training, read_truth
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Forecasts by method, the truth, the frames they start from, and their scores.

    Attributes:
        forecasts: method -> (trajectory, start, lead_time, y, x) fields.
        truth: (trajectory, start, lead_time, y, x) fields.
        initial: (trajectory, start, y, x) fields.
        errors: method -> (trajectory, start, lead_time, group) relative L1 errors.
        scores: the content of scores.json.
    """

    forecasts: dict[str, xr.Dataset]
    truth: xr.Dataset
    initial: xr.Dataset
    errors: dict[str, xr.DataArray]
    scores: dict[str, Any]


def evaluate_forecasts(
    forecasts: Mapping[str, xr.Dataset],
    store: Store,
    plan: ForecastPlan,
    variables: Sequence[Variable],
    baseline_names: Sequence[BaselineName] = (),
    training_split: str = "train",
) -> Evaluation:
    """Score forecasts of a plan, and baselines for the same plan, against a store.

    Raises:
        DataError: a forecast does not match the truth, or a baseline cannot be fitted to the training split.
    """
    truth, initial = read_truth(store, plan, variables), read_initial(store, plan, variables)
    methods = dict(forecasts)
    for name in baseline_names:
        methods[name] = _baseline_forecast(name, store, training_split, plan.stride, truth, initial)
    sums = {name: _accumulate_by_trajectory(forecast, truth) for name, forecast in methods.items()}
    errors = {name: scores.relative_l1(total) for name, total in sums.items()}
    about = {
        "dataset": store.dataset,
        "trajectories": len(plan.trajectories),
        "starts": len(plan.starts),
        "lead_times": truth["lead_time"].values.tolist(),
        "units": {name: truth[name].attrs["units"] for name in truth.data_vars},
    }
    summaries = {name: summarise(total) for name, total in sums.items()}
    return Evaluation(methods, truth, initial, errors, {**about, "methods": summaries})


def _accumulate_by_trajectory(forecast: xr.Dataset, truth: xr.Dataset) -> Sums:
    """The sums of all trajectories, one in memory at a time."""
    return Sums.total(
        scores.accumulate(forecast.isel(trajectory=[i]).load(), truth.isel(trajectory=[i]))
        for i in range(truth.sizes["trajectory"])
    )


def _baseline_forecast(
    name: BaselineName,
    store: Store,
    training_split: str,
    stride: int,
    truth: xr.Dataset,
    initial: xr.Dataset,
) -> xr.Dataset:
    lead_times = truth["lead_time"].values
    if name == "persistence":
        return baselines.persistence(initial, lead_times).transpose(*truth.dims)
    # A stencil's step is the distance between its training frames, so these lie a forecast's step apart.
    training = read_training(store, training_split, stride if name == "stencil" else 1)
    training = training[list(truth.data_vars)]
    if name == "climatology":
        return baselines.Climatology.fit(training).forecast(truth)
    return baselines.LinearStencil.fit(training).forecast(initial, lead_times).transpose(*truth.dims)
