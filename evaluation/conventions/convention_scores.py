"""Convention scores: all methods by one convention, with intervals, and which differences are more than chance."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from pelagos.evaluation.conventions.formulas import FORMULAS
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_convention import CONVENTIONS, Convention, ConventionName
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.conventions.score_reduction import (
    compute_estimate,
    compute_score,
    compute_value,
    score_by_sample,
)
from pelagos.evaluation.conventions.score_windows import score_as_json
from pelagos.evaluation.inference.estimate import LEVEL
from pelagos.evaluation.inference.paired_test import paired_test
from pelagos.evaluation.inference.resampling import Blocks, blocks_of, draw_counts
from pelagos.preprocessing.array_types import Floats, Ints

REPLICATES = 1000
SEED = 0

_RELATIVE = ScoreDefinition(
    name="rollout", formula="relative_l1", pool_variables=True, samples="median", variables="mean"
)
_FIRST = (0, 1)
HEADLINE = (
    _RELATIVE.model_copy(update={"name": "one_step", "window": _FIRST}),
    _RELATIVE,
    _RELATIVE.model_copy(
        update={"name": "normalised_one_step", "formula": "normalised_relative_l1", "window": _FIRST}
    ),
    _RELATIVE.model_copy(update={"name": "normalised_rollout", "formula": "normalised_relative_l1"}),
)
"""What `score_summary` leads with: the same numbers."""
POOLED = ScoreDefinition(
    name="pooled_relative_l2", formula="relative_l2", pool_variables=True, pool_samples=True, window=_FIRST
)

RELATIVE_CURVE = ScoreDefinition(
    name="relative_l1",
    formula="relative_l1",
    pool_variables=True,
    samples="median",
    variables="each",
    lead_times="each",
)
RMSE_CURVE, BIAS_CURVE, _RELATIVE_L2_CURVE = (
    RELATIVE_CURVE.model_copy(update={"name": name, "formula": formula, "pool_samples": True})
    for name, formula in (("rmse", "rmse"), ("bias", "bias"), ("pooled_relative_l2", "relative_l2"))
)
GROUP_SCORES = (RELATIVE_CURVE, _RELATIVE_L2_CURVE, RMSE_CURVE, BIAS_CURVE)
"""What `score_summary` says of each variable group, over the whole domain and over each region: the same curves."""


@dataclass(frozen=True, eq=False)
class ConventionScores:
    """Scores of several methods for the same forecasts.

    Attributes:
        statistics: method -> of each forecast; methods may have different variables.
        blocks: of the forecasts that are drawn together.
    """

    statistics: Mapping[str, SampleStatistics]
    blocks: Blocks

    @classmethod
    def of(
        cls, statistics: Mapping[str, SampleStatistics], trajectories: Ints, starts: Ints, reach: int
    ) -> "ConventionScores":
        """Scores of forecasts from these starts, which reach so many frames."""
        return cls(statistics, blocks_of(trajectories, starts, reach))

    @cached_property
    def counts(self) -> Floats:
        """(1 + replicate, sample) the same drawings for all methods, so that differences are paired."""
        return draw_counts(self.blocks, REPLICATES, SEED)

    def describe_resampling(self) -> dict[str, Any]:
        """How intervals are made, for scores.json."""
        return {
            "level": LEVEL,
            "replicates": len(self.counts) - 1,
            "seed": SEED,
            "blocks": self.blocks.count,
            "block": self.blocks.kind,
            "few_blocks": self.blocks.few,
        }

    def headline(self, method: str) -> dict[str, Any]:
        """The numbers of `score_summary` with intervals."""
        statistics = self.statistics[method]
        found = {one.name: self._estimate(one, statistics) for one in HEADLINE}
        together = replace(statistics, group=dict.fromkeys(statistics.group, "all"))
        return found | {POOLED.name: self._estimate(POOLED, together)}

    def group_curves(self, method: str) -> dict[str, dict[str, Any]]:
        """Group -> the curves of `score_summary` over lead times, with intervals."""
        found: dict[str, dict[str, Any]] = {group: {} for group in self.statistics[method].groups}
        for definition in GROUP_SCORES:
            for window in self.statistics[method].windows():
                score = compute_score(definition, window, self.counts)
                for group, values in score.to_json()["groups"].items():
                    curve = found[group].setdefault(definition.name, {})
                    for part, line in values["by_lead_time"].items():
                        curve.setdefault(part, []).extend(line)
        return found

    def scores(self, method: str, definitions: Iterable[ScoreDefinition]) -> dict[str, Any]:
        """All that these definitions give, by name; what lacks a statistic is left out."""
        statistics = self.statistics[method]
        return {
            one.name: score_as_json(one, statistics, self.counts)
            for one in definitions
            if statistics.has(one.needs)
        }

    def lacking(self, method: str, definitions: Iterable[ScoreDefinition]) -> list[str]:
        """The names of the scores that `scores` leaves out."""
        return [one.name for one in definitions if not self.statistics[method].has(one.needs)]

    def comparisons(self, definition: ScoreDefinition) -> list[dict[str, Any]]:
        """A paired test of every two methods by one number; none by scores that keep variables apart.

        Only methods with the same variables are compared: the mean over others is another score.
        """
        found = []
        for first, second in combinations(self.statistics, 2):
            pair = [self.statistics[name] for name in (first, second)]
            same = pair[0].variables == pair[1].variables
            if not same or not all(one.has(definition.needs) for one in pair):
                continue
            drawn = [compute_value(definition, one, self.counts) for one in pair]
            if np.isnan(drawn[0][0]):
                continue
            alone = [score_by_sample(definition, one) for one in pair]
            test = paired_test(alone[0], alone[1], (drawn[0], drawn[1]), self.blocks)
            better = FORMULAS[definition.formula].better
            found.append(
                {
                    "score": definition.name,
                    "first": first,
                    "second": second,
                    "better": better,
                    **test.to_json(),
                }
            )
        return found

    def by_convention(self, name: ConventionName) -> dict[str, Any]:
        """What a convention says of all methods, for scores.json."""
        convention = CONVENTIONS[name]
        tests = [
            test
            for one in convention.scores
            if one.name in convention.headline
            for test in self.comparisons(one)
        ]
        return {
            **_about(convention),
            "methods": {
                method: {
                    "scores": self.scores(method, convention.scores),
                    "without": self.lacking(method, convention.scores),
                }
                for method in self.statistics
            },
            "comparisons": tests,
        }

    def _estimate(self, definition: ScoreDefinition, statistics: SampleStatistics) -> dict[str, Any]:
        return compute_estimate(definition, statistics, self.counts).to_json()


def _about(convention: Convention) -> dict[str, Any]:
    return {
        "name": convention.name,
        "headline": list(convention.headline),
        "points": convention.points,
        "fields": convention.fields,
        "differs": convention.differs,
    }
