from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pelagos.preprocessing.physics.parameter import NotNegative, Positive, Range, bounds, draw


def test_a_fixed_parameter_takes_no_random_number() -> None:
    rng = np.random.default_rng(0)
    assert draw(0.25, rng) == 0.25
    assert rng.uniform() == np.random.default_rng(0).uniform()


def test_a_linear_range_is_drawn_uniformly() -> None:
    rng = np.random.default_rng(0)
    values = np.array([draw(Range(low=2, high=4), rng) for _ in range(2000)])
    assert values.min() >= 2
    assert values.max() <= 4
    assert values.mean() == pytest.approx(3, abs=0.05)


def test_a_logarithmic_range_has_its_geometric_mean_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    values = np.array([draw(Range(low=1e-4, high=1e-2, scale="log"), rng) for _ in range(2000)])
    assert values.min() >= 1e-4 * (1 - 1e-12)
    assert values.max() <= 1e-2 * (1 + 1e-12)
    assert np.exp(np.log(values).mean()) == pytest.approx(1e-3, rel=0.1)


def test_bounds_of_a_number_are_itself() -> None:
    assert bounds(3.0) == (3.0, 3.0)
    assert bounds(Range(low=1, high=2)) == (1, 2)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Range, {"low": 2, "high": 1}, "low 2 is above high 1"),
        (Range, {"low": 0, "high": 1, "scale": "log"}, "needs low > 0, not 0"),
        (Positive, 0.0, "must be positive, not 0"),
        (NotNegative, {"low": -1, "high": 1}, "must not be negative, not -1"),
    ],
)
def test_impossible_parameters_are_refused_with_the_value(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(kind).validate_python(value)
