"""Insolation is what geometry says: daily means in closed form, the seasons, the two poles, the solar constant."""

import numpy as np
import pytest

from pelagos.preprocessing.fields.insolation import SOLAR_CONSTANT, insolation, mean_insolation, sun_position

LATITUDES = np.array([-90.0, -60.0, -23.5, 0.0, 40.0, 70.0, 90.0])
DAY = 86400.0
# Equinoxes and solstices of 2001 as published, in days after 2000-01-01 12:00 UTC.
MARCH, JUNE, SEPTEMBER, DECEMBER = 444.063, 536.818, 630.461, 720.306


def moments(day: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(T,) days, all the same, and even fractions of a day in UTC."""
    return np.full(count, day), np.arange(count) / count


def test_the_sun_is_where_almanacs_have_it() -> None:
    sun = sun_position(np.array([MARCH, JUNE, SEPTEMBER, DECEMBER]))
    assert np.rad2deg(sun.declination) == pytest.approx([0, 23.439, 0, -23.439], abs=0.01)
    # The perihelion of 4 January 2001 at 0.98329 and the aphelion of 4 July at 1.01664 astronomical units.
    assert sun_position(np.array([368.9, 550.1])).distance == pytest.approx([0.98329, 1.01664], abs=2e-4)
    # The sun is 14 min 14 s late on 11 February and 16 min 26 s early on 3 November.
    late = sun_position(np.array([407.0, 672.0])).equation_of_time * 720 / np.pi
    assert late == pytest.approx([-14.23, 16.43], abs=0.1)


@pytest.mark.parametrize("day", [369.0, MARCH, 495.0, JUNE, SEPTEMBER, DECEMBER])
def test_the_mean_of_a_day_is_that_in_closed_form(day: float) -> None:
    found = insolation(*moments(day, 4320), LATITUDES, np.array([0.0, 100.0])).mean(axis=0)
    sun, phi = sun_position(np.array([day])), np.deg2rad(LATITUDES)
    declination, distance = float(sun.declination[0]), float(sun.distance[0])
    half_day = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    level, swing = np.sin(phi) * np.sin(declination), np.cos(phi) * np.cos(declination)
    expected = SOLAR_CONSTANT / distance**2 / np.pi * (half_day * level + swing * np.sin(half_day))
    assert found == pytest.approx(np.stack([expected, expected], axis=1), abs=0.01)
    assert found.max() > 400


def test_the_mean_over_a_step_is_the_mean_of_moments_within_it() -> None:
    rng = np.random.default_rng(0)
    longitudes = np.array([0.0, 77.0, 250.0])
    for hours in (1, 6, 24, 36):
        days, day = 8000 * rng.random(5), rng.random(5)
        found = mean_insolation(days, day, LATITUDES, longitudes, 3600.0 * hours)
        middle = days - hours / 2 / 24
        before = (np.arange(2000) + 0.5) / 2000 * hours / 24
        # The sun's place in its year is that of the middle.
        sampled = np.mean([insolation(middle, day - one, LATITUDES, longitudes) for one in before], axis=0)
        assert found == pytest.approx(sampled, abs=0.2)


def test_a_short_step_has_the_value_of_the_moment() -> None:
    days, day = np.array([470.0]), np.array([0.4])
    found = mean_insolation(days, day, LATITUDES, np.array([0.0]), 1.0)
    assert found == pytest.approx(insolation(days, day, LATITUDES, np.array([0.0])), abs=0.05)


def test_hemispheres_mirror_each_other_where_the_declination_is_the_opposite() -> None:
    # In units of the flux, the equator's noon in the two solstices is alike, and a latitude's day the other's.
    june, december = (
        insolation(*moments(season, 960), LATITUDES, np.zeros(1)) for season in (JUNE, DECEMBER)
    )
    flux = [one[:, 3].max() for one in (june, december)]
    mirrored = insolation(*moments(DECEMBER, 960), -LATITUDES, np.zeros(1))
    assert np.sort(june / flux[0], axis=0) == pytest.approx(np.sort(mirrored / flux[1], axis=0), abs=0.01)


def test_the_global_mean_over_a_year_is_a_quarter_of_the_solar_constant() -> None:
    days = 365.2422 * (np.arange(730) + 0.5) / 730
    latitudes = np.rad2deg(np.arcsin((np.arange(60) + 0.5) / 30 - 1))  # rows of equal areas
    found = mean_insolation(days, np.zeros(730), latitudes, np.zeros(1), DAY).mean()
    # The mean of the inverse square distance is 1 / sqrt(1 - e^2), e = 0.0167.
    assert found == pytest.approx(SOLAR_CONSTANT / 4 / np.sqrt(1 - 0.0167**2), rel=1e-3)


def test_the_sun_is_highest_at_its_noon_and_gone_at_night() -> None:
    # In mid February the equation of time is -14.2 minutes: noon is late.
    times = np.arange(1440) / 1440
    found = insolation(np.full(1440, 407.0), times, np.array([0.0]), np.array([0.0]))[:, 0, 0]
    assert 1440 * times[found.argmax()] == pytest.approx(720 + 14.2, abs=1.5)
    assert (found[:340] == 0).all()
