"""Score chances: the part of scores.json with intervals: headline, convention, chosen scores, horizons and drift."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.convention_scores import ConventionScores
from pelagos.evaluation.conventions.ensemble_formulas import ENSEMBLE_FORMULAS
from pelagos.evaluation.conventions.rain_formulas import RAIN_FORMULAS
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.conventions.score_reduction import compute_score
from pelagos.evaluation.frame_sums.ensemble_sums import RANKS
from pelagos.evaluation.horizon import (
    blow_up_time,
    correlation_horizon,
    horizon_estimate,
    skill_horizon,
    valid_time,
)
from pelagos.evaluation.inference.resampling import Blocks
from pelagos.evaluation.streaming.chosen_scores import EQUAL
from pelagos.evaluation.streaming.invariant_drift import invariant_drift
from pelagos.evaluation.streaming.kept_statistics import by_ensemble, sample_axes, sample_statistics
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.evaluation.streaming.score_plan import ScorePlan
from pelagos.preprocessing.array_types import Floats

CORRELATION, VALID, BLOW_UP = 0.95, 0.4, 10.0
_COSINE = ScoreDefinition(name="cosine", formula="cosine", pool_variables=True, lead_times="each")
_BASELINES = ("persistence", "climatology", "seasonal_climatology")


def score_chances(plan: ScorePlan, kept: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """`resampling`, `convention` where one was chosen, and for each of `methods` what is added to its summary."""
    chosen = plan.chosen
    scores = _scores_over(plan, kept, WHOLE)
    methods: dict[str, dict[str, Any]] = {
        method: {"intervals": {**scores.headline(method), "groups": scores.group_curves(method)}}
        for method in plan.methods
    }
    for region in (one.name for one in plan.regions if one.name not in (WHOLE, EQUAL)):
        over = _scores_over(plan, kept, region)
        for method, values in methods.items():
            values["intervals"].setdefault("regions", {})[region] = over.group_curves(method)
    for method, values in methods.items():
        if chosen.definitions or "rank_histogram" in chosen.names:
            values |= _chosen_scores(plan, scores, method)
        if "drift" in chosen.names:
            failed = np.asarray(scores.statistics[method].failed.any(axis=(1, 2)))
            values["drift"] = invariant_drift(plan, kept, method, scores.counts, failed)
        if horizons := _horizons(plan, scores, method):
            values["horizons"] = horizons
    found: dict[str, Any] = {"resampling": scores.describe_resampling(), "methods": methods}
    if chosen.convention:
        found["convention"] = _scores_over(plan, kept, chosen.region(plan.grid)).by_convention(
            chosen.convention
        )
    return found


def _chosen_scores(plan: ScorePlan, scores: ConventionScores, method: str) -> dict[str, Any]:
    """Scores by name, and those that can't be had of these forecasts; of ensembles, a sample is all its members."""
    members, statistics = plan.chosen.members, scores.statistics[method]
    together = ConventionScores(
        {method: by_ensemble(statistics, members)},
        Blocks(scores.blocks.of_sample[::members], scores.blocks.kind),
    )
    found: dict[str, Any] = {"scores": {}, "without": []}
    for one in plan.chosen.definitions:
        source = together if one.formula in ENSEMBLE_FORMULAS else scores
        found["scores"] |= source.scores(method, [one])
        found["without"] += source.lacking(method, [one])
        if one.formula in RAIN_FORMULAS and plan.rain and one.name in found["scores"]:
            # All other variables are no rain.
            rain, groups = plan.keys[plan.rain.position], found["scores"][one.name]["groups"]
            found["scores"][one.name]["groups"] = {name: groups[name] for name in groups if name == rain}
    if "fss" in plan.chosen.names and plan.rain is None:
        found["without"].append("fss")
    if "rank_histogram" in plan.chosen.names:
        if statistics.has((RANKS,)):
            ranks = together.statistics[method].array(RANKS).sum(axis=(0, 1))
            shares = ranks / np.maximum(ranks.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
            found["rank_histogram"] = dict(zip(statistics.variables, shares.tolist(), strict=True))
        else:
            found["without"].append("rank_histogram")
    return found


def _scores_over(plan: ScorePlan, kept: Mapping[str, xr.Dataset], region: str) -> ConventionScores:
    statistics = {method: sample_statistics(kept[method], region) for method in plan.methods}
    trajectories, starts = sample_axes(kept[next(iter(plan.methods))])
    return ConventionScores.of(statistics, trajectories, starts, plan.forecasts.stride * plan.forecasts.steps)


def _horizons(plan: ScorePlan, scores: ConventionScores, method: str) -> dict[str, Any]:
    """The horizons that were asked for; those of skill against each simple baseline that is there."""
    wanted, statistics = plan.chosen.names, scores.statistics[method]
    times: dict[str, tuple[str, Floats]] = {}
    if "correlation_time" in wanted:
        each = np.eye(len(statistics.failed))
        correlation = compute_score(_COSINE, statistics, each).curve
        meaning = f"first lead time with a correlation below {CORRELATION:g}"
        times["correlation_time"] = meaning, correlation_horizon(correlation, plan.lead_times, CORRELATION)
    error = _normalised_error(plan, method, statistics)
    if "valid_time" in wanted:
        meaning = f"first lead time with a root mean square error above {VALID:g} deviations"
        times["valid_time"] = meaning, valid_time(error, plan.lead_times, VALID)
    if "skill_horizon" in wanted:
        for name in _BASELINES:
            other = scores.statistics.get(name)
            if name != method and other is not None and other.variables == statistics.variables:
                reached = skill_horizon(error, _normalised_error(plan, name, other), plan.lead_times)
                meaning = f"first lead time with an error not below that of {name}"
                times[f"skill_horizon_{name}"] = meaning, reached
    if "blow_up_time" in wanted:
        size, of_truth = (_normalised_size(plan, method, statistics, one) for one in ("forecast", "truth"))
        meaning = (
            f"first lead time at which a forecast is no number, or {BLOW_UP:g} times as large as the truth"
        )
        times["blow_up_time"] = meaning, blow_up_time(size, of_truth, plan.lead_times, BLOW_UP)
    failed = np.asarray(statistics.failed.any(axis=(1, 2)))
    return {
        name: {
            "meaning": meaning,
            "median": horizon_estimate(reached, scores.counts, failed).to_json(),
            "share": horizon_estimate(reached, scores.counts, failed, "share").to_json(),
        }
        for name, (meaning, reached) in times.items()
    }


def _normalised_error(plan: ScorePlan, method: str, statistics: SampleStatistics) -> Floats:
    """(S, L) √ of the mean over variables of ⟨e²⟩ / σ²."""
    std = plan.scales[plan.positions(method), 1]
    return _root_mean(statistics.array("squared_error") / std**2, statistics.array("weight"))


def _normalised_size(plan: ScorePlan, method: str, statistics: SampleStatistics, field: str) -> Floats:
    """(S, L) √ of the mean over variables of ⟨(x − μ)²⟩ / σ²."""
    mean, std = plan.scales[plan.positions(method)].T
    weight = statistics.array("weight")
    with np.errstate(invalid="ignore", over="ignore"):  # a forecast that blew up
        square = statistics.array(f"squared_{field}") - 2 * mean * statistics.array(field) + mean**2 * weight
        # Rounding may leave less than nothing of a field that is its mean.
        return _root_mean(np.maximum(square, 0.0) / std**2, weight)


def _root_mean(sums_SLV: Floats, weight_SLV: Floats) -> Floats:
    """NaN where there is no truth of any variable."""
    defined = weight_SLV > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(defined, sums_SLV / weight_SLV, 0.0)
    number = defined.sum(axis=-1)
    return np.asarray(np.where(number > 0, np.sqrt(means.sum(axis=-1) / np.maximum(number, 1)), np.nan))
