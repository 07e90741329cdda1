"""Score numbers: every number of a report with its interval, from what an evaluation has kept.

Shapes: S samples, L lead times, V variables, G variable groups, B drawings of samples.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from pelagos.evaluation.conventions.convention_scores import (
    BIAS_CURVE,
    HEADLINE,
    RELATIVE_CURVE,
    RMSE_CURVE,
    ConventionScores,
)
from pelagos.evaluation.conventions.score_reduction import compute_score
from pelagos.evaluation.inference.estimate import Estimate, interval
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


@dataclass(frozen=True)
class ScoreNumber:
    """One number.

    Attributes:
        method: whose forecasts.
        region: that it is taken over.
        field: the variable group; `all` for the mean over groups.
        score: its name.
        units: of it.
        lead_time: in the store's units of time; None for the mean over lead times.
        value: of all forecasts.
        low: end of its 95 % interval.
        high: end of the interval.
        forecasts: that have a value.
        failed: of these, how many are not numbers somewhere.
    """

    method: str
    region: str
    field: str
    score: str
    units: str
    lead_time: float | None
    value: float
    low: float
    high: float
    forecasts: int
    failed: int


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
        return {one.name: compute_score(one, statistics, self.scores.counts).estimate() for one in HEADLINE}

    def curve(self, method: str, name: str) -> dict[str, list[Estimate]]:
        """Group -> one of the `CURVES`, an estimate a lead time."""
        found: dict[str, list[Estimate]] = {}
        for one in self.numbers(method):
            if one.score == name and one.region == WHOLE and one.lead_time is not None:
                estimate = Estimate(one.value, one.low, one.high, one.forecasts, one.failed)
                found.setdefault(one.field, []).append(estimate)
        return found

    def numbers(self, method: str) -> list[ScoreNumber]:
        """All numbers of a method."""
        return self._numbers[method]

    @cached_property
    def _numbers(self) -> dict[str, list[ScoreNumber]]:
        found: dict[str, list[ScoreNumber]] = {method: [] for method in self.evaluation.methods}
        for region in self.evaluation.kept[self.evaluation.methods[0]]["region"].values.tolist():
            if region == EQUAL:  # of a convention alone, whose scores stand in scores.json
                continue
            scores = self.scores if region == WHOLE else self._over(region)
            for method in found:
                found[method] += list(self._of(scores, method, region))
        return found

    def _of(self, scores: ConventionScores, method: str, region: str) -> Iterator[ScoreNumber]:
        statistics = scores.statistics[method]
        for one in HEADLINE:
            estimate = compute_score(one, statistics, scores.counts).estimate()
            shown = (estimate.value, estimate.low, estimate.high, estimate.n, estimate.failed)
            yield ScoreNumber(method, region, "all", one.name, "1", None, *shown)
        for one in CURVES:
            score = compute_score(one, statistics, scores.counts)
            low, high = interval(score.by_group[1:])
            for place, group in enumerate(score.groups):
                units = self.units(group) if one.name in ("rmse", "bias") else "1"
                for lead, time in enumerate(score.lead_times.tolist()):
                    yield ScoreNumber(
                        method,
                        region,
                        group,
                        one.name,
                        units,
                        time,
                        float(score.by_group[0, lead, place]),
                        float(low[lead, place]),
                        float(high[lead, place]),
                        int(score.defined[:, lead, place].sum()),
                        int(score.failed[:, lead, place].sum()),
                    )

    def units(self, group: str) -> str:
        """The units of a variable group."""
        truth = self.evaluation.truth
        members = truth["group"].values == group
        return ", ".join(np.unique(truth["units"].values[members]))

    def _over(self, region: str) -> ConventionScores:
        kept = self.evaluation.kept
        statistics = {name: sample_statistics(kept[name], region) for name in self.evaluation.methods}
        return ConventionScores.of(statistics, *sample_axes(kept[TRUTH]), self.reach)

    def csv(self) -> str:
        """All numbers as comma-separated values, a line each."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(ScoreNumber.__annotations__)
        for method in self.evaluation.methods:
            writer.writerows(list(asdict(one).values()) for one in self.numbers(method))
        return buffer.getvalue()

    def json(self) -> str:
        """All numbers as JSON, null for those that it has none for."""
        rows = [asdict(one) for method in self.evaluation.methods for one in self.numbers(method)]
        return json.dumps(json_values(rows), indent=1, allow_nan=False)
