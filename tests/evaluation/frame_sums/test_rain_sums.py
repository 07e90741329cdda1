import importlib.util

import numpy as np
import pytest

from pelagos.evaluation.frame_sums.rain_sums import RainClimate, fractions_sums, seeps_sums
from pelagos.preprocessing.errors import ConfigError

INSTALLED = importlib.util.find_spec("scores") is not None
needs_scores = pytest.mark.skipif(not INSTALLED, reason="the package scores is not installed")
WEIGHTS = np.array([[1.0, 2.0, 4.0]])


def fractions_skill(forecast: np.ndarray, truth: np.ndarray, threshold: float, window: int) -> np.ndarray:
    sums = fractions_sums(forecast, truth, threshold, window)
    return np.asarray(1 - sums["fss_error"] / sums["fss_power"])


def test_the_climate_counts_dry_times_and_takes_the_upper_third_of_wet_ones_as_heavy() -> None:
    amounts = np.array([0.0, 0.1, 0.25, 1, 2, 3, 4, np.nan]).reshape(-1, 1, 1)
    climate = RainClimate.fit(amounts)
    assert climate.dry[0, 0] == pytest.approx(3 / 7)
    assert climate.heavy[0, 0] == 3  # two thirds of the way from 1 to 4


def test_a_point_that_was_never_wet_has_no_heavy_rain() -> None:
    climate = RainClimate.fit(np.zeros((5, 1, 2)))
    np.testing.assert_array_equal(climate.dry, 1)
    assert np.isnan(climate.heavy).all()


@needs_scores
def test_seeps_takes_the_penalties_of_its_table() -> None:
    p1 = 0.4
    table = 0.5 * np.array(
        [
            [0, 1 / (1 - p1), 4 / (1 - p1)],
            [1 / p1, 0, 3 / (1 - p1)],
            [1 / p1 + 3 / (2 + p1), 3 / (2 + p1), 0],
        ]
    )
    amounts = [0.0, 1.0, 9.0]  # dry, light, heavy
    climate = RainClimate(np.full((1, 1), p1), np.full((1, 1), 5.0))
    for forecast in range(3):
        for truth in range(3):
            p, t = np.full((1, 1, 1), amounts[forecast]), np.full((1, 1, 1), amounts[truth])
            found = seeps_sums(p, t, climate, np.full((1, 1), 2.0))
            assert found["seeps"][0] == pytest.approx(2 * table[forecast, truth], rel=1e-12)
            assert found["seeps_weight"][0] == 2


@needs_scores
def test_seeps_leaves_out_deserts_rain_forests_and_holes() -> None:
    climate = RainClimate(np.array([[0.05, 0.5, 0.9]]), np.full((1, 3), 5.0))
    found = seeps_sums(np.ones((2, 1, 3)), np.array([[[1.0, 1, 1]], [[1.0, np.nan, 1]]]), climate, WEIGHTS)
    np.testing.assert_array_equal(found["seeps_weight"], [2, 0])


@needs_scores
def test_a_failed_forecast_has_an_infinite_seeps_and_no_skill() -> None:
    climate = RainClimate(np.full((1, 3), 0.5), np.full((1, 3), 5.0))
    failed = np.array([[[1.0, np.nan, 1.0]]])
    assert seeps_sums(failed, np.ones((1, 1, 3)), climate, WEIGHTS)["seeps"][0] == np.inf
    assert fractions_skill(failed, np.ones((1, 1, 3)), 0.5, 1)[0] == 0


@needs_scores
def test_fractions_skill_of_single_points_follows_the_formula() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 3, 8, 8))
    found = fractions_skill(p, t, 0.3, 1)
    said, happened = p > 0.3, t > 0.3
    expected = 1 - (said ^ happened).sum((1, 2)) / (said.sum((1, 2)) + happened.sum((1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(fractions_skill(t, t, 0.3, 3), 1, rtol=1e-12)


@pytest.mark.skipif(INSTALLED, reason="the package scores is installed")
def test_without_the_package_the_extra_is_named() -> None:
    with pytest.raises(ConfigError, match=r"pelagos\[scores\]"):
        fractions_skill(np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), 0.5, 1)
