"""Insolation: the sun's radiation on a level surface at the top of the atmosphere.

Declination, equation of time and distance after J. W. Spencer, Fourier series representation of the position of the
sun, Search 2 (1971) 172, which is right to 0.0006 rad. The solar constant after G. Kopp and J. L. Lean, Geophysical
Research Letters 38 (2011) L01706: 1360.8 +- 0.5 W m-2.

Shapes: T times, H rows, W columns.
"""

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats

SOLAR_CONSTANT = 1360.8
"""Radiation on a surface that faces the sun, at its mean distance [W m-2]."""
_DAY = 86400.0  # s

# Each for 1, cos d, sin d, cos 2d, sin 2d, cos 3d, sin 3d, where d is the angle of the day in its year.
_DECLINATION = (0.006918, -0.399912, 0.070257, -0.006758, 0.000907, -0.002697, 0.00148)
_EQUATION_OF_TIME = (0.000075, 0.001868, -0.032077, -0.014615, -0.040849, 0.0, 0.0)
_INVERSE_SQUARE_DISTANCE = (1.000110, 0.034221, 0.001280, 0.000719, 0.000077, 0.0, 0.0)


def insolation(
    year_fraction: Floats, day_fraction: Floats, latitude: Floats, longitude: Floats
) -> NDArray[np.float64]:
    """(T, H, W) insolation at moments [W m-2].

    Args:
        year_fraction: (T,) the time since the start of January, as a fraction of the year.
        day_fraction: (T,) universal time, as a fraction of the day.
        latitude: (H,) [degrees].
        longitude: (W,) [degrees east].
    """
    level, swing, flux = _day_of(year_fraction, latitude)
    hour_angle = _hour_angle(year_fraction, day_fraction, longitude)
    return np.asarray(flux * np.maximum(level + swing * np.cos(hour_angle), 0.0))


def mean_insolation(
    year_fraction: Floats, day_fraction: Floats, latitude: Floats, longitude: Floats, period: float
) -> NDArray[np.float64]:
    """(T, H, W) means of the insolation over the time before moments [W m-2].

    The integral over the hour angle is exact; the declination is that of the middle of the period.

    Args:
        year_fraction: (T,) the time since the start of January, as a fraction of the year.
        day_fraction: (T,) universal time, as a fraction of the day.
        latitude: (H,) [degrees].
        longitude: (W,) [degrees east].
        period: how long the time before is [s].
    """
    middle = year_fraction - period / 2 / (365.2425 * _DAY)
    level, swing, flux = _day_of(middle, latitude)
    end = _hour_angle(middle, day_fraction, longitude)
    width = 2 * np.pi * period / _DAY
    # Where the sun neither rises nor sets, the ratio lies outside of [-1, 1].
    sunset = np.arccos(np.clip(-level / np.maximum(swing, 1e-12), -1.0, 1.0))
    sums = (_sunlit(angle, sunset, level, swing) for angle in (end - width, end))
    return np.asarray(flux * -np.subtract(*sums) / width)


def _sunlit(angle: Floats, sunset: Floats, level: Floats, swing: Floats) -> Floats:
    """The integral of the cosine of the zenith angle by day, from a midnight to hour angles, over whole days too."""
    days = np.floor((angle + np.pi) / (2 * np.pi))
    within = np.clip(angle - 2 * np.pi * days, -sunset, sunset)
    day = 2 * (level * sunset + swing * np.sin(sunset))
    return np.asarray(days * day + level * (within + sunset) + swing * (np.sin(within) + np.sin(sunset)))


def _day_of(year_fraction: Floats, latitude: Floats) -> tuple[Floats, Floats, Floats]:
    """(T, H, 1) a and b of the zenith's cosine a + b cos(hour angle), and (T, 1, 1) the radiation [W m-2]."""
    declination = _series(_DECLINATION, year_fraction)[:, None, None]
    phi = np.deg2rad(latitude)[None, :, None]
    flux = SOLAR_CONSTANT * _series(_INVERSE_SQUARE_DISTANCE, year_fraction)[:, None, None]
    return np.sin(phi) * np.sin(declination), np.cos(phi) * np.cos(declination), flux


def _hour_angle(year_fraction: Floats, day_fraction: Floats, longitude: Floats) -> Floats:
    """(T, 1, W) of the true sun, 0 at its noon [rad]."""
    clock = 2 * np.pi * (day_fraction - 0.5) + _series(_EQUATION_OF_TIME, year_fraction)
    return np.asarray(clock[:, None, None] + np.deg2rad(longitude)[None, None, :])


def _series(coefficients: tuple[float, ...], year_fraction: Floats) -> Floats:
    angle = 2 * np.pi * np.asarray(year_fraction, np.float64)
    waves = [np.ones_like(angle)]
    for order in (1, 2, 3):
        waves += [np.cos(order * angle), np.sin(order * angle)]
    return np.asarray(np.tensordot(np.array(coefficients), np.stack(waves), 1))
