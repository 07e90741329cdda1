"""Verification: forecasts and baselines held against the truth, and their scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.score_summary import summarise, summarise_region
from pelagos.evaluation.streaming.chosen_scores import EQUAL, HEADLINE_ALONE, ChosenScores
from pelagos.evaluation.streaming.evaluator import Evaluator, FrameSink, moments_of
from pelagos.evaluation.streaming.frame_sources import FrameSource, LabelledFrames, StoredFrames, baseline
from pelagos.evaluation.streaming.region import WHOLE, Region
from pelagos.evaluation.streaming.regression_frames import RegressionFrames
from pelagos.evaluation.streaming.score_archive import labelled, sums_of
from pelagos.evaluation.streaming.score_chances import score_chances
from pelagos.evaluation.streaming.score_plan import TRUTH, ScorePlan
from pelagos.evaluation.streaming.seasonal_frames import SeasonalFrames, dates_of
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys

BATCH = 16
"""Forecasts that are held against the truth together where they are in memory already."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known of forecasts: their scores, and what is kept of them and of the truth.

    Attributes:
        scores: the content of scores.json.
        kept: what scores.zarr holds of the truth and of each method, see `score_archive`.
    """

    scores: dict[str, Any]
    kept: Mapping[str, xr.Dataset]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that were scored, in order."""
        return tuple(name for name in self.kept if name != TRUTH)

    @property
    def truth(self) -> xr.Dataset:
        """What is kept of the truth."""
        return self.kept[TRUTH]

    def sums(self, method: str, region: str = WHOLE) -> Sums:
        """What any score of a method is made of."""
        return sums_of(self.kept[method], region)

    @property
    def errors(self) -> dict[str, xr.DataArray]:
        """Method -> (trajectory, start, lead_time, group) relative L1 errors."""
        return {method: scores.relative_l1(self.sums(method)) for method in self.methods}

    @property
    def drifts(self) -> dict[str, xr.Dataset]:
        """Truth and methods -> (trajectory, start, lead_time) of each quantity, see `conservation.drift`."""
        first, scale = self.truth["initial_quantities"], self.truth["quantity_scales"]
        found = {}
        for name, kept in self.kept.items():
            if kept.sizes["quantity"]:
                change = (kept["quantities"] - first) / scale.where(scale > 0)
                found[name] = change.rename(thinned="lead_time").to_dataset("quantity")
        return found

    def spectra(self, group: str) -> dict[str, xr.DataArray]:
        """Truth and methods -> (trajectory, start, lead_time, wavenumber) energy of a variable group's fields."""
        names = self.truth["variable"].values[self.truth["group"].values == group]
        found = {}
        for name, kept in self.kept.items():
            if set(names) <= set(kept["variable"].values) and kept.sizes["wavenumber"]:
                energy = kept["spectra"].sel(variable=names).sum("variable", skipna=False)
                found[name] = energy.rename(shown="lead_time")
        return found

    def units(self, group: str) -> str:
        """The units of a variable group."""
        members = self.truth["group"].values == group
        return ", ".join(np.unique(self.truth["units"].values[members]))

    def pictures(self, variable: str) -> dict[str, xr.DataArray]:
        """Truth and methods -> (lead_time, y, x) frames of one forecast at some lead times."""
        found = {}
        for name, kept in self.kept.items():
            if variable in kept["variable"].values:
                frames = kept["pictures"].isel(picture=0).sel(variable=variable, drop=True)
                units = str(kept["units"].sel(variable=variable).item())
                found[name] = frames.rename(shown="lead_time").assign_attrs(units=units)
        return found


def make_evaluator(
    store: Store,
    plan: ForecastPlan,
    variables: Sequence[Variable],
    sources: Mapping[str, FrameSource],
    baseline_names: Sequence[BaselineName] = (),
    training_split: str = "train",
    *,
    regions: tuple[Region, ...] = (),
    pictured: int = 0,
    sinks: Mapping[str, FrameSink] = MappingProxyType({}),
    size: int = BATCH,
    chosen: ChosenScores = HEADLINE_ALONE,
) -> Evaluator:
    """What scores forecasts of a plan, and baselines for the same plan, against a store.

    Args:
        store: holds the truth.
        plan: of the forecasts.
        variables: those that any of the forecasts has.
        sources: of the forecasts, by method; one may have fewer variables than others.
        baseline_names: baselines to score beside them.
        training_split: what baselines are fitted to.
        regions: to score apart from the whole domain, which is the first.
        pictured: the sample of which frames are kept.
        sinks: what takes the frames of a method besides the scores.
        size: forecasts of a batch.
        chosen: scores beside the headline.

    Raises:
        DataError: a baseline cannot be fitted to the training split, or a method is called like the truth.
    """
    if TRUTH in sources:
        raise DataError(f"a method cannot be called {TRUTH!r}: that is what it is held against")
    truth = StoredFrames(store, plan, tuple(variables))
    seasonal, regression = SeasonalFrames(truth, training_split), RegressionFrames(truth, training_split)
    everything = dict(sources)
    for name in baseline_names:
        fitted: dict[str, FrameSource] = {"seasonal_climatology": seasonal, "regression": regression}
        everything[name] = fitted.get(name) or baseline(name, truth, training_split)
    score_plan = ScorePlan.of(
        plan,
        store,
        variables,
        {name: source.variables for name, source in everything.items()},
        field_scales(truth, size),
        regions,
        pictured,
        chosen,
        chosen.rain_sums(store, variables, training_split),
    )
    dated = chosen.anomalies and dates_of(store) is not None
    return Evaluator(score_plan, truth, everything, sinks, seasonal if dated else None)


def evaluate_forecasts(
    forecasts: Mapping[str, xr.Dataset],
    store: Store,
    plan: ForecastPlan,
    variables: Sequence[Variable],
    baseline_names: Sequence[BaselineName] = (),
    training_split: str = "train",
    models: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    pictured: int = 0,
    chosen: ChosenScores = HEADLINE_ALONE,
) -> Evaluation:
    """Score forecasts in memory, or opened from disk, as `make_evaluator` does.

    Args:
        forecasts: by method.
        store: holds the truth.
        plan: of the forecasts.
        variables: those that any of the forecasts has.
        baseline_names: baselines to score beside them.
        training_split: what baselines are fitted to.
        models: what the scores are to say of the models behind the forecasts, by method.
        pictured: the sample of which frames are kept.
        chosen: scores beside the headline.

    Raises:
        DataError: a forecast does not match the truth, or a baseline cannot be fitted to the training split.
    """
    sources = {
        name: LabelledFrames.of(dataset, store, plan, variables) for name, dataset in forecasts.items()
    }
    evaluator = make_evaluator(
        store, plan, variables, sources, baseline_names, training_split, pictured=pictured, chosen=chosen
    )
    states = evaluator.score_all(BATCH)
    kept = {name: labelled(state, store.time_units) for name, state in states.items()}
    return Evaluation(describe_scores(store, evaluator.plan, kept, training_split, models), kept)


def describe_scores(
    store: Store,
    plan: ScorePlan,
    kept: Mapping[str, xr.Dataset],
    training_split: str,
    models: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The content of scores.json: what was scored, and the summary of each method.

    A point without a value in the initial frame has no forecast: it is left out for all methods, and counted.
    """
    counts = kept[TRUTH]["count"]
    chances = score_chances(plan, kept)
    points = counts.sum([dim for dim in counts.dims if dim != "variable"]).values
    return {
        "dataset": store.dataset,
        "version": store.version,
        "split": plan.forecasts.split,
        "training_split": training_split,
        "trajectories": len(plan.forecasts.trajectories),
        "starts": len(plan.forecasts.starts),
        "pictured": plan.forecasts.trajectories[
            np.unravel_index(plan.pictured, plan.forecasts.sample_shape)[0]
        ],
        "lead_times": plan.lead_times.tolist(),
        "time_units": store.time_units,
        "units": {variable.key: variable.units for variable in plan.variables},
        "points": dict(zip(plan.keys, points.tolist(), strict=True)),
        "scales": {
            key: {"mean": float(mean), "std": float(std)}
            for key, (mean, std) in zip(plan.keys, plan.scales, strict=True)
        },
        "models": {name: dict(facts) for name, facts in models.items()},
        "resampling": chances["resampling"],
        **({"convention": chances["convention"]} if "convention" in chances else {}),
        "methods": {
            name: {**_describe_method(kept[name]), **chances["methods"][name]} for name in plan.methods
        },
    }


def _describe_method(kept: xr.Dataset) -> dict[str, Any]:
    left_out = kept["left_out"].sum([dim for dim in kept["left_out"].dims if dim != "variable"]).values
    counts = zip(kept["variable"].values.tolist(), left_out.tolist(), strict=True)
    regions = [name for name in kept["region"].values.tolist() if name not in (WHOLE, EQUAL)]
    return {
        **summarise(sums_of(kept)),
        **({"regions": {name: summarise_region(sums_of(kept, name)) for name in regions}} if regions else {}),
        "left_out": {name: count for name, count in counts if count},
    }


def field_scales(truth: StoredFrames, size: int) -> dict[str, tuple[float, float]]:
    """Mean and deviation of each variable in physical units.

    Of the training split, or of the truth for variables that are stored transformed.
    """
    store = truth.store
    positions = {key: position for position, key in enumerate(keys(store.variables))}
    transformed = tuple(variable for variable in truth.channels if variable.transform is not None)
    own = StoredFrames(store, truth.plan, transformed)
    physical = dict(zip(keys(transformed), moments_of(own, size) if transformed else (), strict=True))
    scales = {}
    for key in truth.variables:
        stored = np.array([store.stats.mean[positions[key]], store.stats.std[positions[key]]])
        mean, std = (float(value) for value in physical.get(key, stored))
        scales[key] = mean, std or 1.0
    return scales
