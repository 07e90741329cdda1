"""Sums of products give the map of least squares, and later rows choose its penalty."""

import numpy as np
import pytest

from pelagos.evaluation.linear_regression import PENALTIES, LeastSquares, chosen_map


def sums(features: np.ndarray, targets: np.ndarray, parts: int = 1) -> LeastSquares:
    found = LeastSquares()
    for one, two in zip(np.array_split(features, parts), np.array_split(targets, parts), strict=True):
        found.add(one, two)
    return found


def test_the_map_is_that_of_least_squares_however_rows_come() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    expected = np.linalg.lstsq(features, targets)[0].astype(np.float64)
    targets = np.concatenate([targets, [[np.nan, 1.0]]])
    features = np.concatenate([features, rng.normal(size=(1, 4))])
    for parts in (1, 7):
        found = sums(features, targets, parts)
        assert found.coefficients(0.0) == pytest.approx(expected, rel=1e-9)
        left = ((features[:50] @ expected - targets[:50]) ** 2).sum(0) / (targets[:50] ** 2).sum(0)
        assert found.share_left(expected) == pytest.approx(left.mean(), rel=1e-9)


def test_a_penalty_is_chosen_where_rows_are_few_and_noisy_and_none_where_a_map_is_exact() -> None:
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(400, 30)), rng.normal(size=(30, 2))
    exact, noisy = features @ weights, 0.1 * features @ weights + rng.normal(size=(400, 2))
    found, penalty = chosen_map(sums(features[:40], exact[:40]), sums(features[40:], exact[40:]))
    assert penalty == PENALTIES[0]
    assert found == pytest.approx(weights, rel=1e-5)
    _, penalty = chosen_map(sums(features[:40], noisy[:40]), sums(features[40:], noisy[40:]))
    assert penalty == PENALTIES[-1]
