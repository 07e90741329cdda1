"""Efficiency: how few trajectories a method needs, and what it gains over another from the same number.

Source: Herde et al., Poseidon (2024, arXiv:2405.19101), section 4: the accuracy gain at n trajectories is the
baseline's error over the model's; the efficiency gain is n over the number of trajectories from which the model reaches
the error that the baseline has at n. Errors between measured numbers lie on straight lines in logarithms.

Shapes: S seeds, M numbers of trajectories.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from pelagos.evaluation.inference.estimate import Estimate, interval
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import DataError

REPLICATES = 1000
Reach = Literal["reached", "at least", "never"]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """The errors of a method by the number of trajectories that it learnt from.

    Attributes:
        trajectories: M numbers, ascending.
        errors: (S, M) of each seed at each number; infinite where a run failed.
    """

    trajectories: tuple[int, ...]
    errors: Floats

    def __post_init__(self) -> None:
        numbers, errors = self.trajectories, self.errors
        if not numbers or any(one >= two for one, two in pairwise((0, *numbers))):
            raise DataError(f"numbers of trajectories must be positive and ascending, not {numbers}")
        if errors.ndim != 2 or errors.shape[1] != len(numbers) or not len(errors):
            raise DataError(f"errors of shape {errors.shape} for {len(numbers)} numbers of trajectories")
        if not (errors > 0).all():
            raise DataError("errors must be positive: gains and power laws are ratios of them")

    @property
    def medians(self) -> Floats:
        """The median over seeds at each number of trajectories."""
        return np.asarray(np.median(self.errors, axis=0))

    def error_at(self, number: float) -> float:
        """The median error at a number of trajectories, between measured ones on a line in logarithms.

        Raises:
            DataError: it lies outside of what was measured.
        """
        known, errors = self.trajectories, self.medians
        if not known[0] <= number <= known[-1]:
            raise DataError(f"{number:g} trajectories lie outside of the curve, {known[0]} to {known[-1]}")
        after = int(np.searchsorted(known, number))
        if known[after] == number:
            return float(errors[after])
        ends = errors[after - 1 : after + 1]
        if np.isinf(ends).any():
            return math.inf
        share = math.log(number / known[after - 1]) / math.log(known[after] / known[after - 1])
        return float(math.exp(np.dot((1 - share, share), np.log(ends))))

    def needed_for(self, error: float) -> tuple[float, Reach]:
        """The smallest number of trajectories whose median error is no larger, and how far it is known.

        Returns:
            The number, and `reached`; the smallest measured one, and `at least` where fewer may do as well; infinity
            and `never` where no measured number does.
        """
        known, errors = self.trajectories, self.medians
        # Where most seeds failed nothing is reached, though the error asked for is infinite too.
        enough = np.isfinite(errors) & (errors <= error)
        if enough[0]:
            return float(known[0]), "at least"
        curve = zip(known, errors.tolist(), enough.tolist(), strict=True)
        for (left, high, _), (right, low, reached) in pairwise(curve):
            if reached:
                # From a failed run there is no line.
                share = 1.0 if math.isinf(high) else math.log(high / error) / math.log(high / low)
                return left * (right / left) ** share, "reached"
        return math.inf, "never"

    def resampled(self, generator: np.random.Generator) -> "LearningCurve":
        """The curve of as many seeds, drawn with replacement."""
        seeds = len(self.errors)
        return LearningCurve(self.trajectories, self.errors[generator.integers(seeds, size=seeds)])


@dataclass(frozen=True)
class PowerLaw:
    """error = factor * number ** -exponent.

    Attributes:
        factor: the error of one trajectory.
        exponent: of the decrease.
        deviation: root mean square of what the logarithms of the errors differ by, relative to 1.
    """

    factor: float
    exponent: float
    deviation: float

    @classmethod
    def of(cls, curve: LearningCurve) -> "PowerLaw":
        """The law of least squares in logarithms, through the median errors that are finite.

        Raises:
            DataError: fewer than two are.
        """
        finite = np.isfinite(curve.medians)
        if finite.sum() < 2:
            raise DataError("a power law takes two numbers of trajectories with finite errors")
        x, y = np.log(np.array(curve.trajectories, float)[finite]), np.log(curve.medians[finite])
        slope, offset = np.polyfit(x, y, 1)
        rest = y - (slope * x + offset)
        return cls(float(np.exp(offset)), float(-slope), float(np.sqrt(np.mean(rest**2))))


def accuracy_gain(model: LearningCurve, baseline: LearningCurve, number: float) -> float:
    """AG: the baseline's error over the model's at a number of trajectories; 1 where both failed."""
    ours, theirs = model.error_at(number), baseline.error_at(number)
    return 1.0 if math.isinf(ours) and math.isinf(theirs) else theirs / ours


def efficiency_gain(model: LearningCurve, baseline: LearningCurve, number: float) -> tuple[float, Reach]:
    """EG: a number of trajectories over that from which the model reaches the error of the baseline there.

    0 where it never does, as in the paper, and where both failed; `at least` where the fewest measured are enough.
    """
    needed, reach = model.needed_for(baseline.error_at(number))
    return number / needed, reach


@dataclass(frozen=True)
class Gains:
    """What a model gains over a baseline, with intervals over seeds.

    Attributes:
        accuracy: AG.
        accuracy_at: the number of trajectories that it is of.
        efficiency: EG.
        efficiency_at: the number of trajectories that it is of.
        reach: whether EG is measured, or a bound.
    """

    accuracy: Estimate
    accuracy_at: int
    efficiency: Estimate
    efficiency_at: int
    reach: Reach

    @classmethod
    def of(
        cls, model: LearningCurve, baseline: LearningCurve, accuracy_at: int, efficiency_at: int
    ) -> "Gains":
        """The gains at these numbers of trajectories.

        Raises:
            DataError: one of them lies outside of a curve.
        """
        curves = (model, baseline)
        return cls(
            with_interval(lambda a, b: accuracy_gain(a, b, accuracy_at), curves),
            accuracy_at,
            with_interval(lambda a, b: efficiency_gain(a, b, efficiency_at)[0], curves),
            efficiency_at,
            efficiency_gain(model, baseline, efficiency_at)[1],
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "accuracy_gain": {**self.accuracy.to_json(), "trajectories": self.accuracy_at},
            "efficiency_gain": {
                **self.efficiency.to_json(),
                "trajectories": self.efficiency_at,
                "reach": self.reach,
            },
        }


def with_interval(figure: Callable[..., float], curves: Sequence[LearningCurve]) -> Estimate:
    """A figure of some curves, and the interval of its values where the seeds of each are drawn anew.

    With a single seed there is no interval. A handful of seeds gives a hint rather than an interval to trust.
    """
    least = min(len(curve.errors) for curve in curves)
    value, low, high = figure(*curves), math.nan, math.nan
    if least > 1:
        generator = np.random.default_rng(0)
        drawn = [figure(*(curve.resampled(generator) for curve in curves)) for _ in range(REPLICATES)]
        low, high = (float(end) for end in interval(np.array(drawn)))
    return Estimate(value, low, high, least, sum(int(np.isinf(c.errors).sum()) for c in curves))
