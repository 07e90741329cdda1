"""Score numbers: every number of a report with its interval, from what an evaluation has kept.

Shapes: S samples, L lead times, V variables, G variable groups, B drawings of samples.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pelagos.evaluation.conventions.convention_scores import (
    BIAS_CURVE,
    HEADLINE,
    RELATIVE_CURVE,
    RMSE_CURVE,
    ConventionScores,
)
from pelagos.evaluation.conventions.score_reduction import compute_estimate, compute_score
from pelagos.evaluation.inference.estimate import Estimate, interval
from pelagos.evaluation.report.physics_numbers import physics_lines
from pelagos.evaluation.report.score_number import ScoreLines, ScoreNumber
from pelagos.evaluation.score_summary import json_values
from pelagos.evaluation.streaming.chosen_scores import EQUAL
from pelagos.evaluation.streaming.kept_statistics import sample_axes, sample_statistics
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation

CURVES = (
    RELATIVE_CURVE,
    RELATIVE_CURVE.model_copy(update={"name": "normalised_relative_l1", "formula": "normalised_relative_l1"}),
    RMSE_CURVE,
    BIAS_CURVE,
)
"""What is shown of each variable group at each lead time."""


@dataclass(frozen=True, eq=False)
class ScoreNumbers:
    """The numbers of an evaluation.

    Attributes:
        evaluation: what is known of the forecasts.
        reach: frames from a start to the end of its forecast, by which starts are told apart; see `blocks_of`.
    """

    evaluation: Evaluation
    reach: int

    @cached_property
    def scores(self) -> ConventionScores:
        """All methods over the whole domain."""
        return self._over(WHOLE)

    @property
    def few(self) -> bool:
        """Whether there are too few independent forecasts for a trustworthy interval."""
        return self.scores.blocks.few

    def headline(self, method: str) -> dict[str, Estimate]:
        """`one_step`, `rollout` and the same of normalised fields: relative L1, median over forecasts."""
        statistics = self.scores.statistics[method]
        return {one.name: compute_estimate(one, statistics, self.scores.counts) for one in HEADLINE}

    def curve(self, method: str, name: str) -> dict[str, list[Estimate]]:
        """Group -> one of the `CURVES`, an estimate a lead time."""
        found: dict[str, list[Estimate]] = {}
        for one in self.numbers(method):
            if one.score == name and one.region == WHOLE and one.lead_time is not None:
                estimate = Estimate(one.value, one.low, one.high, one.forecasts, one.failed)
                found.setdefault(one.field, []).append(estimate)
        return found

    def numbers(self, method: str) -> Iterator[ScoreNumber]:
        """All numbers of a method."""
        for lines in self._lines[method]:
            yield from lines.numbers(method)
        yield from chosen_numbers(self.evaluation.scores, method)

    @cached_property
    def _lines(self) -> dict[str, list["ScoreLines"]]:
        found: dict[str, list[ScoreLines]] = {method: [] for method in self.evaluation.methods}
        for region in self.evaluation.kept[self.evaluation.methods[0]]["region"].values.tolist():
            if region == EQUAL:  # of a convention alone, whose scores stand in scores.json
                continue
            scores = self.scores if region == WHOLE else self._over(region)
            for method in found:
                found[method] += self._of(scores, method, region)
        return found

    @cached_property
    def _physics(self) -> list[tuple[str, ScoreLines]]:
        found, order = physics_lines(self.evaluation, self.scores.counts), list(self.evaluation.kept)
        return sorted(found, key=lambda one: order.index(one[0]))

    def _of(self, scores: ConventionScores, method: str, region: str) -> Iterator["ScoreLines"]:
        statistics = scores.statistics[method]
        for one in HEADLINE:
            estimate = compute_estimate(one, statistics, scores.counts)
            shown = (estimate.value, estimate.low, estimate.high, estimate.n, estimate.failed)
            yield ScoreLines(region, one.name, ("all",), ("1",), (None,), np.array(shown).reshape(1, 1, 5))
        for one in CURVES:
            parts = []
            for window in statistics.windows():
                score = compute_score(one, window, scores.counts)
                low, high = interval(score.by_group[1:])
                counts = score.defined.sum(axis=0), score.failed.sum(axis=0)
                parts.append(np.stack([score.by_group[0], low, high, *counts], axis=-1))
            groups, scaled = score.groups, one.name in ("rmse", "bias")
            units = tuple(self.evaluation.units(group) if scaled else "1" for group in groups)
            times = tuple(statistics.lead_times.tolist())
            yield ScoreLines(region, one.name, groups, units, times, np.concatenate(parts))

    def _over(self, region: str) -> ConventionScores:
        kept = self.evaluation.kept
        statistics = {name: sample_statistics(kept[name], region) for name in self.evaluation.methods}
        return ConventionScores.of(statistics, *sample_axes(kept[TRUTH]), self.reach)

    def csv(self) -> Iterator[str]:
        """All numbers as comma-separated values, in pieces of many lines."""
        for rows in self._pieces(header=True):
            buffer = io.StringIO()
            csv.writer(buffer, lineterminator="\n").writerows(rows)
            yield buffer.getvalue()

    def json(self) -> Iterator[str]:
        """All numbers as JSON in pieces, null for those that it has none for."""
        opening = "["
        for rows in self._pieces():
            records = (dict(zip(ScoreNumber.__annotations__, json_values(row), strict=True)) for row in rows)
            texts = [json.dumps(one, indent=1, allow_nan=False).replace("\n", "\n ") for one in records]
            yield opening + "\n " + ",\n ".join(texts)
            opening = ","
        yield "\n]" if opening == "," else "[]"

    def _pieces(self, *, header: bool = False) -> Iterator[list[Sequence[Any]]]:
        """Rows, of which no more are in memory at a time than one score has."""
        if header:
            yield [list(ScoreNumber.__annotations__)]
        for method, several in self._lines.items():
            for lines in several:
                yield [list(asdict(one).values()) for one in lines.numbers(method)]
            if chosen := list(chosen_numbers(self.evaluation.scores, method)):
                yield [list(asdict(one).values()) for one in chosen]
        for method, lines in self._physics:
            yield [list(asdict(one).values()) for one in lines.numbers(method)]


def chosen_numbers(about: Mapping[str, Any], method: str) -> Iterator[ScoreNumber]:
    """The scores that were asked for, those of the convention and the horizons of a method, from scores.json."""
    own, convention = about["methods"].get(method, {}), about.get("convention")
    # Named by the key that asked for them: a score may be called like one of the curves.
    scores = {f"scores: {name}": one for name, one in own.get("scores", {}).items()}
    if convention is not None:
        known = convention["methods"].get(method, {}).get("scores", {})
        scores |= {f"{convention['name']}: {name}": one for name, one in known.items()}
    for name, one in scores.items():
        for field, values in (("all", one), *one.get("groups", {}).items()):
            yield from _numbers_of(method, field, name, values, one.get("lead_times", []))
    for name, one in own.get("horizons", {}).items():
        yield _number(method, "all", name, about["time_units"], None, one["median"])
        yield _number(method, "all", f"{name}, share that reached it", "1", None, one["share"])


def _numbers_of(
    method: str, field: str, name: str, values: Mapping[str, Any], times: Sequence[float]
) -> Iterator[ScoreNumber]:
    """One number over all lead times, where there is one, and those at each of them."""
    if "value" in values:
        yield _number(method, field, name, "", None, values)
    if curve := values.get("by_lead_time"):
        for place, time in enumerate(times):
            yield _number(method, field, name, "", time, {key: curve[key][place] for key in _PARTS})


_PARTS = ("value", "low", "high", "n", "failed")


def _number(
    method: str, field: str, name: str, units: str, time: float | None, values: Mapping[str, Any]
) -> ScoreNumber:
    # Null in scores.json is infinite or undefined, and neither is a number here.
    value, low, high = (math.nan if values[key] is None else float(values[key]) for key in _PARTS[:3])
    number, failed = (int(values[key]) for key in _PARTS[3:])
    return ScoreNumber(method, WHOLE, field, name, units, time, value, low, high, number, failed)


def numbers_of(evaluation: Evaluation, reach: int = 0) -> ScoreNumbers:
    """All numbers of an evaluation; where the reach is not known, forecasts of one trajectory are drawn together."""
    starts = evaluation.truth["start"].values
    return ScoreNumbers(evaluation, reach or int(starts.max() - starts.min()) + 1)
