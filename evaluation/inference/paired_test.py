"""Paired test: whether one model's scores differ from another's, start by start on the same starts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from pelagos.evaluation.inference.estimate import Estimate, interval
from pelagos.evaluation.inference.resampling import Blocks
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import DataError


@dataclass(frozen=True)
class PairedTest:
    """How the score of a model differs from that of another.

    Attributes:
        difference: of the scores, first minus second, with its interval by paired bootstrap.
        bootstrap_p: two-sided probability of a difference this far from zero, by the same resamples.
        lower: blocks in which the first model's score is the lower one.
        higher: blocks in which it is the higher one.
        ties: blocks in which both are equal, or both failed.
        sign_p: of the sign test over blocks.
        wilcoxon_p: of Wilcoxon's signed-rank test over blocks.
    """

    difference: Estimate
    bootstrap_p: float
    lower: int
    higher: int
    ties: int
    sign_p: float
    wilcoxon_p: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        tests = {"bootstrap_p": self.bootstrap_p, "sign_p": self.sign_p, "wilcoxon_p": self.wilcoxon_p}
        known = {name: None if np.isnan(value) else float(value) for name, value in tests.items()}
        counts = {"lower": self.lower, "higher": self.higher, "ties": self.ties}
        return {"difference": self.difference.to_json(), **known, **counts}


def paired_test(
    first_S: Floats, second_S: Floats, replicates: tuple[Floats, Floats], blocks: Blocks
) -> PairedTest:
    """Compare two models by one score.

    Blocks are the unit of the sign and signed-rank tests, since starts of one block are no independent evidence. A
    failed forecast (inf) is worse than any other, and ties with another failed one.

    Args:
        first_S: score of each start of the first model; NaN where it is undefined.
        second_S: of the second, for the same starts.
        replicates: (1 + replicate,) score of all starts of either model, from one drawing of counts.
        blocks: of the starts.

    Raises:
        DataError: the models have different numbers of starts.
    """
    if first_S.shape != second_S.shape:
        raise DataError(
            f"models with {len(first_S)} and {len(second_S)} forecasts cannot be compared start by start"
        )
    shared = ~np.isnan(first_S) & ~np.isnan(second_S)
    gaps_S = np.where(shared, _gap(first_S, second_S), np.nan)
    one, other = (
        blocks.means(np.where(shared, first_S, np.nan)),
        blocks.means(np.where(shared, second_S, np.nan)),
    )
    gaps = _gap(one, other)
    gaps = gaps[~np.isnan(gaps)]
    lower, higher, ties = (int(np.count_nonzero(np.sign(gaps) == sign)) for sign in (-1, 1, 0))
    drawn = _gap(*replicates)
    low, high = (float(end) for end in interval(drawn[1:]))
    failed = int(np.isinf(first_S).sum() + np.isinf(second_S).sum())
    return PairedTest(
        Estimate(float(drawn[0]), low, high, int((~np.isnan(gaps_S)).sum()), failed),
        _bootstrap_p(drawn[1:]),
        lower,
        higher,
        ties,
        _sign_p(lower, higher),
        _wilcoxon_p(gaps),
    )


def _gap(first: Floats, second: Floats) -> Floats:
    """First minus second; zero where both failed."""
    both = np.isinf(first) & (first == second)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(both, 0.0, first - second))


def _bootstrap_p(drawn: Floats) -> float:
    """Twice the share of resampled differences on the rarer side of zero, never below what so many can tell."""
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        return float("nan")
    # One more than were counted, so that no p-value is zero (Davison and Hinkley, 1997, chapter 4).
    rarer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(drawn) + 1))


def _sign_p(lower: int, higher: int) -> float:
    return float(stats.binomtest(lower, lower + higher).pvalue) if lower + higher else float("nan")


def _wilcoxon_p(gaps: Floats) -> float:
    """NaN where no two blocks differ."""
    gaps = gaps[gaps != 0]
    if len(gaps) == 0:
        return float("nan")
    largest = np.abs(gaps[np.isfinite(gaps)]).max(initial=0.0)
    # Only ranks matter, and a failure ranks above every number.
    ranked = np.where(np.isinf(gaps), np.sign(gaps) * (2 * largest + 1), gaps)
    return float(stats.wilcoxon(ranked).pvalue)
