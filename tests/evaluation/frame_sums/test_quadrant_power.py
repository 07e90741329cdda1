import math

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.frame_sums.quadrant_power import quadrant_power

Array = NDArray[np.float64]


def slowly(error: Array) -> Array:
    """Mode by mode, as the definition reads."""
    height, width = error.shape
    power = np.abs(np.fft.fft2(error)) ** 2 / (height * width) ** 2
    shells = np.zeros(min(height, width) // 2)
    for i in range(height // 2):
        for j in range(width // 2):
            if (k := math.floor(math.sqrt(i**2 + j**2))) < len(shells):
                shells[k] += power[i, j]
    return shells


def test_shells_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    forecast, truth = rng.normal(size=(2, 10, 14)), rng.normal(size=(2, 10, 14))
    found = quadrant_power(forecast, truth)["quadrant_power"]
    for n in range(2):
        np.testing.assert_allclose(found[n], slowly(forecast[n] - truth[n]), rtol=1e-12)


def test_a_cosine_has_a_quarter_of_its_square_in_its_own_shell() -> None:
    x = np.arange(32) / 32
    error = np.broadcast_to(2 * np.cos(2 * np.pi * 5 * x), (1, 32, 32))
    found = quadrant_power(error, np.zeros((1, 32, 32)))["quadrant_power"][0]
    # 2 cos = exp(i) + exp(-i), of which the quadrant holds the first.
    np.testing.assert_allclose(found, np.where(np.arange(16) == 5, 1.0, 0.0), atol=1e-14)


def test_a_hole_in_the_truth_counts_nothing_and_a_failure_infinitely() -> None:
    truth, forecast = np.zeros((2, 8, 8)), np.zeros((2, 8, 8))
    truth[0, 0, 0], forecast[1, 0, 0] = np.nan, np.nan
    found = quadrant_power(forecast, truth)["quadrant_power"]
    np.testing.assert_array_equal(found, [np.zeros(4), np.full(4, np.inf)])
