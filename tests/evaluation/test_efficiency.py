"""Gains and power laws of curves that are known."""

import math

import numpy as np
import pytest

from pelagos.evaluation.efficiency import (
    Gains,
    LearningCurve,
    PowerLaw,
    accuracy_gain,
    efficiency_gain,
    with_interval,
)
from pelagos.preprocessing.errors import DataError

NUMBERS = (1, 2, 4, 8, 16, 32)


def curve(factor: float, exponent: float, spread: tuple[float, ...] = (1.0,)) -> LearningCurve:
    """C M^-alpha, times a factor for each seed."""
    errors = factor * np.array(NUMBERS, float) ** -exponent
    return LearningCurve(NUMBERS, np.array(spread)[:, None] * errors)


def test_gains_over_a_parallel_curve_are_the_ratio_and_its_root() -> None:
    model, baseline = curve(0.1, 0.5), curve(0.2, 0.5)
    # Twice the error at any number, also between those measured; to halve it takes four times as many.
    for number in (1, 3, 16, 32):
        assert accuracy_gain(model, baseline, number) == pytest.approx(2)
    assert list(efficiency_gain(model, baseline, 32)) == [pytest.approx(4), "reached"]
    assert list(efficiency_gain(model, baseline, 10)) == [pytest.approx(4), "reached"]


def test_gains_of_unlike_slopes_are_those_of_the_closed_form() -> None:
    model, baseline = curve(0.2, 0.25), curve(0.3, 0.5)
    number = 9.0
    needed = (0.2 / (0.3 * number**-0.5)) ** (1 / 0.25)
    assert efficiency_gain(model, baseline, number)[0] == pytest.approx(number / needed)
    assert accuracy_gain(model, baseline, number) == pytest.approx(1.5 * number**-0.25)


def test_a_model_against_itself_gains_nothing() -> None:
    one = curve(0.3, 0.4)
    assert accuracy_gain(one, one, 7) == pytest.approx(1)
    assert efficiency_gain(one, one, 7)[0] == pytest.approx(1)


def test_what_lies_beyond_the_measured_numbers_is_a_bound_or_nothing() -> None:
    model, baseline = curve(0.01, 0.5), curve(1.0, 0.5)
    assert efficiency_gain(model, baseline, 32) == (32, "at least")
    assert efficiency_gain(baseline, model, 32) == (0, "never")
    with pytest.raises(DataError, match=r"64 trajectories lie outside of the curve, 1 to 32"):
        accuracy_gain(model, baseline, 64)


def test_the_first_of_several_crossings_counts() -> None:
    model = LearningCurve((1, 2, 4, 8), np.array([[0.8, 0.2, 0.4, 0.1]]))
    assert list(model.needed_for(0.2)) == [pytest.approx(2), "reached"]
    assert list(model.needed_for(0.4)) == [pytest.approx(math.sqrt(2)), "reached"]


def test_failed_runs_count_as_the_worst() -> None:
    model = LearningCurve((1, 2, 4), np.array([[math.inf, 0.2, 0.1]]))
    baseline = LearningCurve((1, 2, 4), np.array([[0.4, 0.3, 0.2]]))
    assert efficiency_gain(model, baseline, 4) == (2, "reached")
    assert accuracy_gain(model, baseline, 1) == 0
    assert accuracy_gain(baseline, model, 1) == math.inf
    assert accuracy_gain(model, model, 1) == 1
    assert model.error_at(1.5) == math.inf


def test_an_infinite_error_reaches_nothing() -> None:
    failed = LearningCurve((1, 4, 16), np.full((1, 3), math.inf))
    late = LearningCurve((1, 4, 16), np.array([[math.inf, 0.2, 0.1]]))
    breaks = LearningCurve((1, 4, 16), np.array([[0.5, 0.3, math.inf]]))
    assert efficiency_gain(failed, failed, 16) == (0, "never")
    assert efficiency_gain(failed, breaks, 16) == (0, "never")
    # It works from 4 trajectories on, where the other fails with 16.
    assert efficiency_gain(late, breaks, 16) == (4, "reached")
    assert efficiency_gain(breaks, failed, 16) == (16, "at least")


def test_a_power_law_is_recovered_from_its_own_values() -> None:
    law = PowerLaw.of(curve(0.7, 0.49))
    assert (law.factor, law.exponent) == pytest.approx((0.7, 0.49))
    assert law.deviation == pytest.approx(0, abs=1e-12)
    noise = np.array([1, -1, -1, 1, 1, -1]) * 0.05
    noisy = LearningCurve(NUMBERS, curve(0.7, 0.49).errors * np.exp(noise))
    assert PowerLaw.of(noisy).exponent == pytest.approx(0.49, abs=0.05)
    assert 0 < PowerLaw.of(noisy).deviation <= 0.05
    with pytest.raises(DataError, match="two numbers of trajectories"):
        PowerLaw.of(LearningCurve((4,), np.array([[0.1]])))


def test_intervals_span_the_seeds_and_one_seed_has_none() -> None:
    spread = (0.8, 1.0, 1.25)
    gains = Gains.of(curve(0.1, 0.5, spread), curve(0.2, 0.5, spread), 8, 32)
    assert gains.accuracy.value == pytest.approx(2)
    assert gains.accuracy.low == pytest.approx(2 * 0.8 / 1.25)
    assert gains.accuracy.high == pytest.approx(2 * 1.25 / 0.8)
    assert gains.efficiency.low < 4 < gains.efficiency.high
    assert gains == Gains.of(curve(0.1, 0.5, spread), curve(0.2, 0.5, spread), 8, 32)
    alone = with_interval(lambda one: PowerLaw.of(one).exponent, [curve(0.1, 0.5)])
    assert alone.to_json() == {"value": pytest.approx(0.5), "low": None, "high": None, "n": 1, "failed": 0}


@pytest.mark.parametrize(
    ("numbers", "errors", "message"),
    [
        ((2, 1), [[0.1, 0.2]], "ascending"),
        ((1, 2), [[0.1]], "errors of shape"),
        ((1, 2), [[0.1, 0.0]], "positive"),
        ((1, 2), [[0.1, math.nan]], "positive"),
    ],
)
def test_what_is_no_curve_is_refused(
    numbers: tuple[int, ...], errors: list[list[float]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        LearningCurve(numbers, np.array(errors))
