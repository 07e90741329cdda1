import numpy as np
import pytest

from pelagos.evaluation.point_sums import STATISTICS, point_sums
from pelagos.preprocessing.array_types import Floats

WEIGHTS = np.linspace(0.5, 2.0, 30).reshape(5, 6)
SCALES = np.array([[0.3, 2.0]] * 4)


def fields(rng: np.random.Generator, dtype: type = np.float64) -> tuple[Floats, Floats]:
    p, t = rng.normal(1.0, 2.0, (2, 4, 5, 6)).astype(dtype)
    t[1, 2, 3] = t[3, 0] = np.nan
    return p, t


def by_definition(p: Floats, t: Floats, mean: float, std: float) -> dict[str, float]:
    valid = ~np.isnan(t)
    p, t, w = p[valid].astype(np.float64), t[valid].astype(np.float64), WEIGHTS[valid]
    total = w.sum()
    deviations = {"p": p - (w @ p) / total, "t": t - (w @ t) / total}
    return {
        "weight": total,
        "forecast": w @ p,
        "truth": w @ t,
        "error": w @ (p - t),
        "absolute_error": w @ abs(p - t),
        "squared_error": w @ (p - t) ** 2,
        "absolute_truth": w @ abs(t),
        "squared_forecast": w @ p**2,
        "squared_truth": w @ t**2,
        "product": w @ (p * t),
        "normalised_error": w @ abs(p - t) / std,
        "normalised_truth": w @ abs(t - mean) / std,
        "max_absolute_error": abs(p - t).max(),
        "centred_squared_forecast": w @ deviations["p"] ** 2,
        "centred_squared_truth": w @ deviations["t"] ** 2,
        "centred_product": w @ (deviations["p"] * deviations["t"]),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_statistic_is_its_formula(rng: np.random.Generator, dtype: type) -> None:
    p, t = fields(rng, dtype)
    found = point_sums(p, t, WEIGHTS, SCALES)
    for n in range(len(p)):
        expected = by_definition(p[n], t[n], *SCALES[n])
        for name, value in expected.items():
            assert found[n, STATISTICS.index(name)] == pytest.approx(value, rel=1e-12), name
        mean = found[n, STATISTICS.index("reference_truth")] + found[n, STATISTICS.index("offset_truth")]
        assert mean == pytest.approx(expected["truth"] / expected["weight"], rel=1e-12)


def test_deviations_keep_their_digits_beside_a_large_mean(rng: np.random.Generator) -> None:
    p, t = rng.normal(size=(2, 4, 5, 6))
    near, far = (point_sums(p + offset, t + offset, WEIGHTS, SCALES) for offset in (0.0, 2.0**20))
    for name in ("centred_squared_forecast", "centred_squared_truth", "centred_product"):
        np.testing.assert_allclose(far[:, STATISTICS.index(name)], near[:, STATISTICS.index(name)], rtol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_failed_point_is_infinitely_wrong_and_spoils_no_other_field(
    rng: np.random.Generator, bad: float
) -> None:
    p, t = fields(rng)
    whole = point_sums(p, t, WEIGHTS, SCALES)
    p[2, 1, 1] = bad
    found = point_sums(p, t, WEIGHTS, SCALES)
    for name in ("absolute_error", "squared_error", "normalised_error", "max_absolute_error"):
        assert found[2, STATISTICS.index(name)] == np.inf
    for name in ("error", "forecast", "product", "centred_product"):
        assert np.isnan(found[2, STATISTICS.index(name)])
    np.testing.assert_array_equal(np.delete(found, 2, axis=0), np.delete(whole, 2, axis=0))


def test_points_without_truth_or_weight_count_for_nothing(rng: np.random.Generator) -> None:
    p, t = fields(rng)
    weights = WEIGHTS.copy()
    weights[0], weights[:, 0] = 0.0, 0.0
    p[:, 0, 2] = np.nan
    p[np.isnan(t)] = np.inf
    found = point_sums(p, t, weights, SCALES)
    inner = np.s_[:, 1:, 1:]
    box = point_sums(np.ascontiguousarray(p[inner]), np.ascontiguousarray(t[inner]), weights[1:, 1:], SCALES)
    np.testing.assert_allclose(found, box, rtol=1e-14, atol=1e-14)


def test_a_field_without_truth_has_zero_sums(rng: np.random.Generator) -> None:
    p, t = fields(rng)
    found = point_sums(p, np.full_like(t, np.nan), WEIGHTS, SCALES)
    np.testing.assert_array_equal(found, 0.0)
