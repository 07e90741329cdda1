"""Score reduction: one score of statistics, over forecasts drawn again and again, with its intervals.

Shapes: B drawings of forecasts (the first is all of them once), S samples, L lead times, V variables, G groups.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.conventions.formula import Formula
from pelagos.evaluation.conventions.formulas import FORMULAS
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.inference.estimate import Estimate, interval
from pelagos.preprocessing.array_types import Flags, Floats

_DRAWN = 1 << 19
"""Values of a score over drawings that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class Score:
    """A score over drawings of forecasts.

    Attributes:
        definition: what was computed.
        groups: the names along G.
        lead_times: (L,) those that count.
        by_group: (B, L, G) before variables and lead times come together.
        defined: (S, L, G) which forecasts have a value.
        failed: (S, L, G) which are not numbers somewhere.
    """

    definition: ScoreDefinition
    groups: tuple[str, ...]
    lead_times: Floats
    by_group: Floats
    defined: Flags
    failed: Flags

    @property
    def keeps_groups(self) -> bool:
        """Whether variables are kept apart, so that there is no one curve."""
        return self.definition.variables == "each" and len(self.groups) > 1

    @property
    def keeps_leads(self) -> bool:
        """Whether lead times are kept apart, so that there is no one number of a group."""
        return self.definition.lead_times == "each" and len(self.lead_times) > 1

    @property
    def curve(self) -> Floats:
        """(B, L) the score at each lead time; NaN where variables are kept apart."""
        if self.keeps_groups:
            return np.full(self.by_group.shape[:2], np.nan)
        return _together(self.by_group, self.definition.variables, axis=-1)

    @property
    def value(self) -> Floats:
        """(B,) the one number; NaN where variables or lead times are kept apart."""
        if self.keeps_leads:
            return np.full(len(self.by_group), np.nan)
        return _over_leads(self.curve, self.definition)

    def estimate(self, values_B: Floats | None = None) -> Estimate:
        """The one number with its interval; of other drawings than the score's own where those are given."""
        return self._estimate(self.value if values_B is None else values_B, slice(None))

    def group_estimates(self) -> dict[str, Estimate]:
        """Each group's number with its interval, lead times together."""
        return {
            group: self._estimate(_over_leads(self.by_group[..., position], self.definition), [position])
            for position, group in enumerate(self.groups)
        }

    def to_json(self) -> dict[str, Any]:
        """The number, that of each group, and the curves over lead times: plain values with intervals.

        What is kept apart has no number of the whole.
        """
        found: dict[str, Any] = {
            "meaning": self.definition.describe(),
            "lead_times": self.lead_times.tolist(),
        }
        if not self.keeps_groups:
            found |= {} if self.keeps_leads else self.estimate().to_json()
            found["by_lead_time"] = self._curve(self.curve, slice(None))
        groups = self.group_estimates()
        return found | {
            "groups": {
                name: {
                    **({} if self.keeps_leads else groups[name].to_json()),
                    "by_lead_time": self._curve(self.by_group[..., position], [position]),
                }
                for position, name in enumerate(self.groups)
            }
        }

    def _curve(self, curve_BL: Floats, chosen: slice | list[int]) -> dict[str, Any]:
        low, high = interval(curve_BL[1:])
        lines = {"value": curve_BL[0], "low": low, "high": high}
        n, failed = (
            one[..., chosen].any(axis=-1).sum(axis=0).tolist() for one in (self.defined, self.failed)
        )
        return {name: _numbers(line) for name, line in lines.items()} | {"n": n, "failed": failed}

    def _estimate(self, values_B: Floats, chosen: slice | list[int]) -> Estimate:
        low, high = (float(end) for end in interval(values_B[1:]))
        n = int(self.defined[..., chosen].any(axis=(1, 2)).sum())
        failed = int(self.failed[..., chosen].any(axis=(1, 2)).sum())
        return Estimate(float(values_B[0]), low, high, n, failed)


def compute_score(definition: ScoreDefinition, statistics: SampleStatistics, counts_BS: Floats) -> Score:
    """One score, over the forecasts as they are and drawn again.

    Args:
        definition: what to compute.
        statistics: of each forecast.
        counts_BS: how often each forecast counts, see `draw_counts`.

    Raises:
        DataError: a statistic that the score needs was not gathered.
    """
    formula, steps = FORMULAS[definition.formula], definition.steps(len(statistics.lead_times))
    members = statistics.members(definition.pool_variables)
    terms = formula.terms(
        {name: statistics.array(name)[:, steps] for name in definition.needs}, definition.parameters
    )
    terms = {name: _grouped(array, members.values(), formula.add) for name, array in terms.items()}
    by_sample = formula.finish(terms, definition.parameters)
    if definition.pool_samples:
        drawn = {name: _pooled(array, counts_BS, formula) for name, array in terms.items()}
        values = formula.finish(drawn, definition.parameters)
    else:
        values = over_samples(by_sample, counts_BS, definition.samples)
    failed = _grouped(statistics.failed[:, steps].astype(np.float64), members.values(), add=False) > 0
    scale = 100.0 if definition.percent else 1.0
    times = statistics.lead_times[steps]
    return Score(definition, tuple(members), times, scale * values, ~np.isnan(by_sample), failed)


def compute_value(definition: ScoreDefinition, statistics: SampleStatistics, counts_BS: Floats) -> Floats:
    """(B,) the one number of a score; some drawings at a time, so that memory does not grow with lead times."""
    size = max(1, _DRAWN // max(1, len(statistics.lead_times) * len(statistics.group)))
    parts = np.split(counts_BS, range(size, len(counts_BS), size))
    return np.concatenate([compute_score(definition, statistics, part).value for part in parts])


def compute_estimate(
    definition: ScoreDefinition, statistics: SampleStatistics, counts_BS: Floats
) -> Estimate:
    """The one number of a score with its interval."""
    score = compute_score(definition, statistics, counts_BS[:1])
    return score.estimate(compute_value(definition, statistics, counts_BS))


def score_by_sample(definition: ScoreDefinition, statistics: SampleStatistics) -> Floats:
    """(S,) the score of each forecast alone, as paired tests take it."""
    each = np.eye(len(statistics.array("max_absolute_error")))
    return compute_value(definition, statistics, each)


def over_samples(values_S: Floats, counts_BS: Floats, how: str) -> Floats:
    """(B, ...) the mean, median or maximum over samples, each counted so often; undefined ones don't count."""
    flat = values_S.reshape(len(values_S), -1)
    reduce = {"mean": _mean, "median": _median, "max": _max}[how]
    return reduce(flat, counts_BS).reshape(len(counts_BS), *values_S.shape[1:])


def _mean(values: Floats, counts: Floats) -> Floats:
    defined = (~np.isnan(values)).astype(np.float64)
    number = counts @ defined
    sums = weighted_sum(np.where(np.isnan(values), 0.0, values), counts)
    return np.asarray(np.where(number > 0, sums / np.maximum(number, 1), np.nan))


def weighted_sum(values_S: Floats, counts_BS: Floats) -> Floats:
    """(B, ...) Σ counts · values over samples, of which those with no count add nothing, not even inf · 0."""
    flat = values_S.reshape(len(values_S), -1)
    finite = np.isfinite(flat)
    sums = counts_BS @ np.where(finite, flat, 0.0)
    for odd in (np.inf, -np.inf, np.nan):
        where = np.isnan(flat) if np.isnan(odd) else flat == odd
        if where.any():
            drawn = counts_BS @ where.astype(np.float64) > 0
            sums = sums + np.where(drawn, odd, 0.0)
    return np.asarray(sums.reshape(len(counts_BS), *values_S.shape[1:]))


def _median(values: Floats, counts: Floats) -> Floats:
    result = np.full((len(counts), values.shape[1]), np.nan)
    # Whole numbers of half the size are gathered and added up in half the time.
    whole = counts.astype(np.int32)
    for column in range(values.shape[1]):
        ordered = np.argsort(values[:, column], kind="stable")
        line = values[ordered, column]
        line = line[: int((~np.isnan(line)).sum())]
        if len(line):
            result[:, column] = _sorted_median(line, whole[:, ordered[: len(line)]])
    return result


def _sorted_median(line: Floats, counts_BS: NDArray[np.int32]) -> Floats:
    """(B,) the median of sorted values that count so often: the middle one, or the mean of the middle two."""
    reached = np.cumsum(counts_BS, axis=1, dtype=np.int32)
    total = reached[:, -1]
    lower = np.argmax(reached >= (total[:, None] + 1) // 2, axis=1)
    upper = np.argmax(reached > total[:, None] // 2, axis=1)
    return np.asarray(np.where(total > 0, line[lower] / 2 + line[upper] / 2, np.nan))


def _max(values: Floats, counts: Floats) -> Floats:
    found = np.full((len(counts), values.shape[1]), -np.inf)
    for row, count in enumerate(counts):
        drawn = values[count > 0]
        found[row] = np.where(np.isnan(drawn), -np.inf, drawn).max(axis=0, initial=-np.inf)
    return np.where(np.isneginf(found), np.nan, found)


def _grouped(array: Floats, members: Iterable[list[int]], add: bool) -> Floats:
    """(S, L, G, ...) of (S, L, V, ...)."""
    parts = [array[:, :, positions] for positions in members]
    return np.stack([part.sum(axis=2) if add else part.max(axis=2) for part in parts], axis=2)


def _pooled(array: Floats, counts: Floats, formula: Formula) -> Floats:
    if formula.add:
        return weighted_sum(array, counts)
    return over_samples(array, counts, "max")


def _together(values: Floats, how: str, axis: int) -> Floats:
    """The mean or sum over defined entries; NaN where there is none."""
    defined = ~np.isnan(values)
    number = defined.sum(axis=axis)
    sums = np.where(defined, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(number > 0, sums if how == "sum" else sums / np.maximum(number, 1), np.nan))


def _over_leads(curve_BL: Floats, definition: ScoreDefinition) -> Floats:
    if definition.lead_times == "geometric_mean":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.exp(_together(np.log(curve_BL), "mean", axis=-1)))
    return _together(curve_BL, "mean", axis=-1)


def _numbers(line: Floats) -> list[float | None]:
    return [float(one) if np.isfinite(one) else None for one in line]
