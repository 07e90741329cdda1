"""Insolation: the sun's radiation on a level surface at the top of the atmosphere.

The sun's place is that of the low-precision formulas of the Astronomical Almanac (page C5), right to 0.01 degrees from
1950 to 2050. The solar constant is that of G. Kopp and J. L. Lean, Geophysical Research Letters 38 (2011) L01706,
1360.8 +- 0.5 W m-2.

Shapes: T times, H rows, W columns.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats

SOLAR_CONSTANT = 1360.8
"""Radiation on a surface that faces the sun, at its mean distance [W m-2]."""
_DAY = 86400.0  # s


class SunPosition(NamedTuple):
    """Where the sun is at times (T,).

    Attributes:
        declination: [rad].
        equation_of_time: how far the true sun is ahead of the mean one [rad].
        distance: in units of the mean.
    """

    declination: Floats
    equation_of_time: Floats
    distance: Floats


def sun_position(days: Floats) -> SunPosition:
    """The place of the sun so many days after 2000-01-01 12:00 UTC.

    >>> float(np.rad2deg(sun_position(np.array([536.82])).declination[0]).round(2))  # the solstice of June 2001
    23.44
    """
    mean_longitude = np.deg2rad(280.460 + 0.9856474 * days)
    anomaly = np.deg2rad(357.528 + 0.9856003 * days)
    longitude = mean_longitude + np.deg2rad(1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    obliquity = np.deg2rad(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(obliquity) * np.sin(longitude), np.cos(longitude))
    ahead = mean_longitude - ascension
    return SunPosition(
        declination=np.asarray(np.arcsin(np.sin(obliquity) * np.sin(longitude))),
        equation_of_time=np.asarray((ahead + np.pi) % (2 * np.pi) - np.pi),
        distance=np.asarray(1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)),
    )


def insolation(
    days: Floats, day_fraction: Floats, latitude: Floats, longitude: Floats
) -> NDArray[np.float64]:
    """(T, H, W) insolation at moments [W m-2].

    Args:
        days: (T,) days after 2000-01-01 12:00 UTC, which say the season.
        day_fraction: (T,) universal time, as a fraction of the day.
        latitude: (H,) [degrees].
        longitude: (W,) [degrees east].
    """
    level, swing, flux = _day_of(days, latitude)
    hour_angle = _hour_angle(days, day_fraction, longitude)
    return np.asarray(flux * np.maximum(level + swing * np.cos(hour_angle), 0.0))


def mean_insolation(
    days: Floats, day_fraction: Floats, latitude: Floats, longitude: Floats, period: float
) -> NDArray[np.float64]:
    """(T, H, W) means of the insolation over the time before moments [W m-2].

    The integral over the hour angle is exact; the declination is that of the middle of the period.

    Args:
        days: (T,) days after 2000-01-01 12:00 UTC, which say the season.
        day_fraction: (T,) universal time, as a fraction of the day.
        latitude: (H,) [degrees].
        longitude: (W,) [degrees east].
        period: how long the time before is [s].
    """
    middle = days - period / 2 / _DAY
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


def _day_of(days: Floats, latitude: Floats) -> tuple[Floats, Floats, Floats]:
    """(T, H, 1) a and b of the zenith's cosine a + b cos(hour angle), and (T, 1, 1) the radiation [W m-2]."""
    sun, phi = sun_position(days), np.deg2rad(latitude)[None, :, None]
    declination = sun.declination[:, None, None]
    flux = SOLAR_CONSTANT / sun.distance[:, None, None] ** 2
    return np.sin(phi) * np.sin(declination), np.cos(phi) * np.cos(declination), flux


def _hour_angle(days: Floats, day_fraction: Floats, longitude: Floats) -> Floats:
    """(T, 1, W) of the true sun, 0 at its noon [rad]."""
    clock = 2 * np.pi * (day_fraction - 0.5) + sun_position(days).equation_of_time
    return np.asarray(clock[:, None, None] + np.deg2rad(longitude)[None, None, :])
