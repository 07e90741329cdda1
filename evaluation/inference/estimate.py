"""Estimate: a number with its interval, how many forecasts it is of and how many of these failed."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos.preprocessing.array_types import Floats

LEVEL = 0.95
"""The share of intervals that hold the true value, were forecasts drawn again."""


@dataclass(frozen=True)
class Estimate:
    """A number and the interval of its resampled values.

    Attributes:
        value: of all forecasts; infinite where failed ones make it so, NaN where it is undefined.
        low: end of the interval; NaN where there are too few blocks to resample.
        high: end of the interval.
        n: forecasts that have a value.
        failed: of these, how many are not numbers somewhere.
    """

    value: float
    low: float
    high: float
    n: int
    failed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, null for what JSON has no number for.

        >>> Estimate(float("inf"), 0.25, float("inf"), 8, 1).to_json()
        {'value': None, 'low': 0.25, 'high': None, 'n': 8, 'failed': 1}
        """
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        finite = {name: float(one) if math.isfinite(one) else None for name, one in numbers.items()}
        return finite | {"n": self.n, "failed": self.failed}


def interval(replicates_B: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """The two ends of the percentile interval along the first axis, NaN where no replicate is defined.

    Undefined replicates (NaN) are left out; infinite ones are the largest there are. No end is interpolated, as
    there is nothing between a number and infinity.

    Args:
        replicates_B: (replicate, ...) resampled values, without that of all forecasts.
        level: share of the replicates between the ends.
    """
    ordered, defined = (
        np.sort(replicates_B, axis=0),
        (~np.isnan(replicates_B)).sum(axis=0),
    )  # NaN is sorted last
    if len(ordered) == 0:
        nothing = np.full(replicates_B.shape[1:], np.nan)
        return nothing, nothing
    tail = (1 - level) / 2
    ends = []
    for share in (tail, 1 - tail):
        # The smallest value with at least this share at or below it; 0.025 * 1000 is 25 and a little by rounding.
        position = np.clip(np.ceil(share * defined - 1e-9).astype(int) - 1, 0, len(ordered) - 1)
        ends.append(np.take_along_axis(ordered, position[None], axis=0)[0])
    return ends[0], ends[1]
