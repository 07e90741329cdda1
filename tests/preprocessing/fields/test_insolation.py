"""Insolation is what geometry says: daily means in closed form, the seasons, the two poles, the solar constant."""

import numpy as np
import pytest

from pelagos.preprocessing.fields.insolation import SOLAR_CONSTANT, insolation, mean_insolation

LATITUDES = np.array([-90.0, -60.0, -23.5, 0.0, 40.0, 70.0, 90.0])
DAY = 86400.0
# Near the solstices and equinoxes of a year of 365 days.
SEASONS = np.array([79.5, 171.5, 265.5, 355.5]) / 365


def moments(day: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(T,) fractions of the year and of the day at even times of a day in UTC, the sun's place held."""
    return np.full(count, day), np.arange(count) / count


def almanac(day: float) -> tuple[float, float]:
    """Declination [rad] and distance [mean distances] in 2001, by the Astronomical Almanac's low-precision formula."""
    days = 365.5 + day  # since noon on 2000-01-01
    anomaly = np.deg2rad(357.528 + 0.9856003 * days)
    longitude = 280.460 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly)
    declination = np.arcsin(np.sin(np.deg2rad(23.439)) * np.sin(np.deg2rad(longitude)))
    return float(declination), float(1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly))


@pytest.mark.parametrize("day", [3.5, 79.5, 130.5, 171.5, 265.5, 355.5])
def test_the_mean_of_a_day_is_that_in_closed_form(day: float) -> None:
    found = insolation(*moments(day / 365, 4320), LATITUDES, np.array([0.0, 100.0])).mean(axis=0)
    declination, distance = almanac(day)
    phi = np.deg2rad(LATITUDES)
    half_day = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    level, swing = np.sin(phi) * np.sin(declination), np.cos(phi) * np.cos(declination)
    expected = SOLAR_CONSTANT / distance**2 / np.pi * (half_day * level + swing * np.sin(half_day))
    assert found == pytest.approx(np.stack([expected, expected], axis=1), abs=1.0)


def test_the_mean_over_a_step_is_the_mean_of_moments_within_it() -> None:
    rng = np.random.default_rng(0)
    longitudes = np.array([0.0, 77.0, 250.0])
    for hours in (1, 6, 24, 36):
        year, day = rng.random(5), rng.random(5)
        found = mean_insolation(year, day, LATITUDES, longitudes, 3600.0 * hours)
        middle = year - hours / 2 / (365.2425 * 24)
        before = (np.arange(2000) + 0.5) / 2000 * hours / 24
        # The sun's place in its year is that of the middle.
        sampled = np.mean([insolation(middle, day - one, LATITUDES, longitudes) for one in before], axis=0)
        assert found == pytest.approx(sampled, abs=0.2)


def test_a_short_step_has_the_value_of_the_moment() -> None:
    year, day = np.array([0.3]), np.array([0.4])
    found = mean_insolation(year, day, LATITUDES, np.array([0.0]), 1.0)
    assert found == pytest.approx(insolation(year, day, LATITUDES, np.array([0.0])), abs=0.05)


def test_hemispheres_mirror_each_other_where_the_declination_is_the_opposite() -> None:
    # In units of the flux, the equator's noon in the two solstices is alike, and a latitude's day the other's.
    june, december = (insolation(*moments(season, 960), LATITUDES, np.zeros(1)) for season in SEASONS[[1, 3]])
    flux = [one[:, 3].max() for one in (june, december)]
    mirrored = insolation(*moments(SEASONS[3], 960), -LATITUDES, np.zeros(1))
    assert np.sort(june / flux[0], axis=0) == pytest.approx(np.sort(mirrored / flux[1], axis=0), abs=0.01)


def test_the_global_mean_over_a_year_is_a_quarter_of_the_solar_constant() -> None:
    years = (np.arange(730) + 0.5) / 730
    latitudes = np.rad2deg(np.arcsin((np.arange(60) + 0.5) / 30 - 1))  # rows of equal areas
    found = mean_insolation(years, np.zeros(730), latitudes, np.zeros(1), DAY).mean()
    # The mean of the inverse square distance is 1 / sqrt(1 - e^2), e = 0.0167.
    assert found == pytest.approx(SOLAR_CONSTANT / 4 / np.sqrt(1 - 0.0167**2), rel=1e-3)


def test_the_sun_is_highest_at_its_noon_and_gone_at_night() -> None:
    # In mid February the equation of time is -14.2 minutes: noon is late.
    times = np.arange(1440) / 1440
    found = insolation(np.full(1440, 42 / 365), times, np.array([0.0]), np.array([0.0]))[:, 0, 0]
    assert 1440 * times[found.argmax()] == pytest.approx(720 + 14.2, abs=1.5)
    assert (found[:340] == 0).all()
