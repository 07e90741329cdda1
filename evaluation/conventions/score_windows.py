"""Score windows: a score over all drawings, computed some lead times after the other where all would fill the memory.

Shapes: B drawings, S samples, L lead times, G groups, and one more: what their curves say together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.conventions.score_reduction import Score, compute_score
from pelagos.evaluation.inference.estimate import Estimate, interval
from pelagos.preprocessing.array_types import Flags, Floats

HELD = 1 << 24
"""Values of a score over drawings, lead times and variables that are in memory at a time."""


def score_as_json(
    definition: ScoreDefinition, statistics: SampleStatistics, counts_BS: Floats, held: int = HELD
) -> dict[str, Any]:
    """What `Score.to_json` says of a score, from lead times in windows of no more than so many values.

    Raises:
        DataError: a statistic that the score needs was not gathered.
    """
    parts = _windows(definition, statistics, held // max(1, len(counts_BS)))
    if len(parts) == 1:
        return compute_score(definition, statistics, counts_BS).to_json()
    # The windows hold the lead times that count, and no others.
    within = definition.model_copy(update={"window": (0, None)})
    lines, sums = list[dict[str, Any]](), _Sums.of(definition)
    for part in parts:
        score = compute_score(within, part, counts_BS)
        lines.append(score.to_json())
        sums.add(score)
    found: dict[str, Any] = _joined(lines)
    return sums.completed(found | {"meaning": definition.describe()})


def _windows(
    definition: ScoreDefinition, statistics: SampleStatistics, values: int
) -> list[SampleStatistics]:
    """The lead times that count, so many at a time that each has no more than so many values."""
    chosen = definition.steps(len(statistics.lead_times))
    times = statistics.lead_times[chosen]
    each = max(math.prod(statistics.array(name).shape[2:]) for name in definition.needs)
    size = max(1, values // max(1, each))
    arrays = {name: statistics.array(name)[:, chosen] for name in definition.needs}
    return [
        SampleStatistics(
            {name: array[:, first : first + size] for name, array in arrays.items()},
            statistics.group,
            times[first : first + size],
        )
        for first in range(0, max(1, len(times)), size)
    ]


def _joined(lines: Sequence[Any]) -> Any:
    """Curves of one window after the other, and what else there is as it is in the first."""
    first = lines[0]
    if isinstance(first, dict):
        return {key: _joined([line[key] for line in lines]) for key in first}
    return [value for line in lines for value in line] if isinstance(first, list) else first


@dataclass(eq=False)
class _Sums:
    """What one number over lead times takes of their windows.

    Attributes:
        definition: of the score.
        groups: the names along G.
        total: (B, G + 1) sums of the scores, or of their logarithms, that are defined.
        number: (B, G + 1) how many these are.
        defined: (S, G) which forecasts have a value at any lead time.
        failed: (S, G) which are not numbers somewhere.
    """

    definition: ScoreDefinition
    groups: tuple[str, ...]
    total: Floats
    number: Floats
    defined: Flags
    failed: Flags

    @classmethod
    def of(cls, definition: ScoreDefinition) -> "_Sums":
        """Of no window yet."""
        nothing, none = np.zeros((1, 1)), np.zeros((1, 1), np.bool_)
        return cls(definition, (), nothing, nothing, none, none)

    def add(self, score: Score) -> None:
        """Take in a window."""
        curves_BLG = np.concatenate([score.by_group, score.curve[..., None]], axis=-1)
        if self.definition.lead_times == "geometric_mean":
            with np.errstate(divide="ignore", invalid="ignore"):
                curves_BLG = np.log(curves_BLG)
        known = ~np.isnan(curves_BLG)
        self.groups = score.groups
        self.total = self.total + np.where(known, curves_BLG, 0.0).sum(1)
        self.number = self.number + known.sum(1)
        self.defined, self.failed = self.defined | score.defined.any(1), self.failed | score.failed.any(1)

    def completed(self, found: dict[str, Any]) -> dict[str, Any]:
        """The curves with the numbers over all lead times; none where these are kept apart."""
        for position, name in enumerate(self.groups):
            curve = {"by_lead_time": found["groups"][name]["by_lead_time"]}
            found["groups"][name] = {**self._number(position, [position]), **curve}
        whole = () if "by_lead_time" not in found else self._number(-1, slice(None)).items()
        kept: dict[str, Any] = {
            name: found[name] for name in ("meaning", "lead_times", "by_lead_time", "groups") if name in found
        }
        return {**kept, **dict(whole)}

    def _number(self, column: int, chosen: slice | list[int]) -> dict[str, Any]:
        if self.definition.lead_times == "each":
            return {}
        total_B, number_B = self.total[:, column], self.number[:, column]
        with np.errstate(invalid="ignore"):
            values_B = np.where(number_B > 0, total_B / np.maximum(number_B, 1), np.nan)
        values_B = np.exp(values_B) if self.definition.lead_times == "geometric_mean" else values_B
        low, high = (float(end) for end in interval(values_B[1:]))
        n, failed = (int(one[:, chosen].any(1).sum()) for one in (self.defined, self.failed))
        return Estimate(float(values_B[0]), low, high, n, failed).to_json()
