"""Random smooth functions on the unit torus, from which initial states are made.

Each is drawn as a function of continuous coordinates and then evaluated, so that a random number
generator gives the same function on every grid. Coordinates: y (H,) and x (W,) in [0, 1).
"""

import numpy as np
from numpy.typing import NDArray

Axis = NDArray[np.float64]
Values = NDArray[np.float64]


def sines(rng: np.random.Generator, y: Axis, x: Axis, modes: int, decay: float) -> Values:
    """A sum of products of sines with wave numbers 1..modes along each axis.

    Amplitudes are uniform in [-1, 1] times (i^2 + j^2)^(-decay / 2), phases uniform.
    """
    number = np.arange(1, modes + 1)
    amplitude = rng.uniform(-1, 1, (modes, modes))
    amplitude *= (number[:, None] ** 2 + number[None, :] ** 2) ** (-decay / 2)
    phase_y, phase_x = rng.uniform(0, 2 * np.pi, (2, modes))
    waves_y = np.sin(2 * np.pi * number * y[:, None] + phase_y)
    waves_x = np.sin(2 * np.pi * number * x[:, None] + phase_x)
    return np.asarray(waves_y @ amplitude @ waves_x.T)


def blobs(
    rng: np.random.Generator, y: Axis, x: Axis, count: int, width: tuple[float, float], signed: bool
) -> Values:
    """A sum of periodic Gaussians at random places, of standard deviations from `width`.

    Amplitudes are uniform in [0.5, 1], half of them negative on average where `signed`.
    """
    centre_y, centre_x = rng.uniform(0, 1, (2, count))
    sigma = rng.uniform(*width, count)
    amplitude = rng.uniform(0.5, 1, count)
    if signed:
        amplitude *= rng.choice([-1.0, 1.0], count)
    # A Gaussian is a product along the axes, so that all bumps are one product of matrices.
    return np.asarray((_bumps(y, centre_y, sigma) * amplitude) @ _bumps(x, centre_x, sigma).T)


def spectrum(rng: np.random.Generator, y: Axis, x: Axis, peak: float, slope: float, largest: int) -> Values:
    """A Gaussian random field with amplitudes k / (1 + (k / peak)^(slope + 1)), isotropic in k.

    Modes with |k| <= `largest` (in waves a side) are drawn; the mean is zero.
    """
    number = np.arange(-largest, largest + 1)
    k = np.hypot(number[:, None], number[None, :])
    amplitude = np.where(k <= largest, k / (1 + (k / peak) ** (slope + 1)), 0.0)
    coefficients = amplitude * (rng.standard_normal(k.shape) + 1j * rng.standard_normal(k.shape))
    waves_y = np.exp(2j * np.pi * number * y[:, None])
    waves_x = np.exp(2j * np.pi * number * x[:, None])
    # The real part has half of the variance of each mode, of which only the shape matters here.
    return np.asarray((waves_y @ coefficients @ waves_x.T).real)


def unit_rms(field: Values) -> Values:
    """The field without its mean, divided by its root mean square.

    Unlike a division by the largest value on a grid, this is the same on all grids that resolve it.
    """
    centred = field - field.mean()
    return np.asarray(centred / np.sqrt(np.mean(centred**2)))


def _bumps(axis: Axis, centres: Axis, sigma: Axis) -> NDArray[np.float64]:
    """Gaussians (len(axis), len(centres)), with the images from neighbouring periods."""
    distance = axis[:, None] - centres
    # Two on each side: beyond them nothing is left in float64 of widths up to a fifth of the side.
    images = np.arange(-2, 3)[:, None, None]
    return np.asarray(np.exp(-0.5 * ((distance + images) / sigma) ** 2).sum(axis=0))
