"""Verification: forecasts and baselines held against the truth, and their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation import baselines, scores
from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.forecast_schema import variable_names
from pelagos.evaluation.score_summary import summarise
from pelagos.evaluation.truth import read_initial, read_training, read_truth
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys, with_role


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
    models: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Evaluation:
    """Score forecasts of a plan, and baselines for the same plan, against a store.

    A point without a value in the initial frame has no forecast: it is left out for all methods, and counted.

    Args:
        forecasts: by method; one may have fewer variables than others.
        store: holds the truth.
        plan: of the forecasts.
        variables: those that any of the forecasts has.
        baseline_names: baselines to score beside them.
        training_split: what baselines are fitted to.
        models: what the scores are to say of the models behind the forecasts, by method.

    Raises:
        DataError: a forecast does not match the truth, or a baseline cannot be fitted to the training split.
    """
    truth, initial = read_truth(store, plan, variables), read_initial(store, plan, variables)
    methods = dict(forecasts)
    for name in baseline_names:
        methods[name] = _baseline_forecast(name, store, training_split, plan.stride, truth, initial)
    scales, started = field_scales(store, truth, variables), _with_a_start(truth, initial, variables)
    errors, summaries = {}, {}
    for method, forecast in methods.items():
        # A climatology has no value where the training split never had one; any other method without a value failed.
        scored = _where_both_exist(started, forecast) if method == "climatology" else started
        sums = _accumulate_by_trajectory(forecast, scored, scales)
        errors[method] = scores.relative_l1(sums)
        summaries[method] = {**summarise(sums), "left_out": _left_out(truth, scored, forecast)}
    about = {
        "dataset": store.dataset,
        "version": store.version,
        "split": plan.split,
        "training_split": training_split,
        "trajectories": len(plan.trajectories),
        "starts": len(plan.starts),
        "lead_times": truth["lead_time"].values.tolist(),
        "time_units": store.time_units,
        "units": {name: truth[name].attrs["units"] for name in truth.data_vars},
        "points": {name: int(truth[name].count()) for name in variable_names(truth)},
        "scales": {name: {"mean": mean, "std": std} for name, (mean, std) in scales.items()},
        "models": {name: dict(facts) for name, facts in models.items()},
    }
    return Evaluation(methods, truth, initial, errors, {**about, "methods": summaries})


def field_scales(
    store: Store, truth: xr.Dataset, variables: Sequence[Variable]
) -> dict[str, tuple[float, float]]:
    """Mean and deviation of each variable in physical units.

    Of the training split, or of the truth for variables that are stored transformed.
    """
    scales, positions = {}, {key: position for position, key in enumerate(keys(store.variables))}
    for variable in variables:
        key = variable.key
        mean, std = (float(part[positions[key]]) for part in (store.stats.mean, store.stats.std))
        if variable.transform is not None:
            field = truth[key].astype(np.float64)
            mean, std = (float(value.fillna(0.0)) for value in (field.mean(), field.std()))
        scales[key] = mean, std or 1.0
    return scales


def _with_a_start(truth: xr.Dataset, initial: xr.Dataset, variables: Sequence[Variable]) -> xr.Dataset:
    """The truth at the points from which a forecast can start; diagnostic fields start from nothing."""
    names = keys(with_role(variables, "prognostic"))
    holes = [name for name in names if bool(initial[name].isnull().any())]
    return truth.assign({name: _masked(truth[name], initial[name]) for name in holes})


def _where_both_exist(truth: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    return truth.assign({name: _masked(truth[name], forecast[name]) for name in variable_names(forecast)})


def _masked(truth: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    return truth.where(other.notnull()).transpose(*truth.dims).assign_attrs(truth.attrs)


def _left_out(truth: xr.Dataset, scored: xr.Dataset, forecast: xr.Dataset) -> dict[str, int]:
    """How many points of each variable a method is not scored at, though they have a truth."""
    masked = [
        name
        for name in variable_names(forecast)
        if not np.may_share_memory(truth[name].values, scored[name].values)
    ]
    counts = {name: int(truth[name].count() - scored[name].count()) for name in masked}
    return {name: count for name, count in counts.items() if count}


def _accumulate_by_trajectory(
    forecast: xr.Dataset, truth: xr.Dataset, scales: Mapping[str, tuple[float, float]]
) -> Sums:
    """The sums of all trajectories, one in memory at a time."""
    return Sums.total(
        scores.accumulate(forecast.isel(trajectory=[i]).load(), truth.isel(trajectory=[i]), scales=scales)
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
