from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.preprocessing.physics import random_functions

FUNCTIONS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "sines": lambda rng, y, x: random_functions.sines(rng, y, x, modes=4, decay=1.0),
    "blobs": lambda rng, y, x: random_functions.blobs(rng, y, x, 5, (0.05, 0.1), signed=True),
    "spectrum": lambda rng, y, x: random_functions.spectrum(rng, y, x, peak=3.0, slope=3.0, largest=6),
}


def axis(n: int) -> NDArray[np.float64]:
    return np.arange(n) / n


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_generator_gives_the_same_function_on_every_grid(name: str) -> None:
    coarse = FUNCTIONS[name](np.random.default_rng(1), axis(16), axis(12))
    fine = FUNCTIONS[name](np.random.default_rng(1), axis(48), axis(24))
    np.testing.assert_allclose(fine[::3, ::2], coarse, atol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_periodic(name: str) -> None:
    here = FUNCTIONS[name](np.random.default_rng(2), axis(16), axis(16))
    beyond = FUNCTIONS[name](np.random.default_rng(2), axis(16) + 1, axis(16))
    # Gaussians lose images more than two periods away, which are below exp(-100).
    np.testing.assert_allclose(beyond, here, atol=1e-12)


def test_a_spectrum_holds_no_mean_and_no_mode_beyond_the_largest() -> None:
    field = FUNCTIONS["spectrum"](np.random.default_rng(3), axis(32), axis(32))
    power = abs(np.fft.fft2(field)) / field.size
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(32, 1 / 32), np.fft.fftfreq(32, 1 / 32)))
    assert power[0, 0] < 1e-14
    assert power[k > 6].max() < 1e-14
    assert power[(k > 0) & (k <= 6)].min() > 1e-6


def test_blobs_are_positive_unless_they_are_signed() -> None:
    y = x = axis(32)
    rng = np.random.default_rng(4)
    assert random_functions.blobs(rng, y, x, 20, (0.05, 0.1), signed=False).min() > 0
    assert random_functions.blobs(rng, y, x, 20, (0.05, 0.1), signed=True).min() < 0


def test_unit_rms_centres_and_scales() -> None:
    field = random_functions.unit_rms(np.random.default_rng(5).uniform(3, 9, (8, 8)))
    assert field.mean() == pytest.approx(0, abs=1e-14)
    assert np.mean(field**2) == pytest.approx(1)
