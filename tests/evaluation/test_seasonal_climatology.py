import cftime
import numpy as np
import pytest

from pelagos.evaluation.seasonal_climatology import SeasonalClimatology, days_apart, slots_of
from pelagos.preprocessing.errors import DataError

YEARS = np.arange("2001-01-01", "2004-01-01", 12, dtype="datetime64[h]")


def day_of(time: np.datetime64) -> int:
    return slots_of(np.array([time]))[0][0]


def test_slots_are_days_of_the_year_and_times_of_day() -> None:
    times = np.array(["2000-01-01T06", "2000-12-31T18", "2001-12-31T00"], "datetime64[h]")
    assert slots_of(times) == [(1, 21600), (366, 64800), (365, 0)]


def test_climate_models_count_days_in_their_own_calendars() -> None:
    times = np.array([cftime.Datetime360Day(2001, 12, 30, 12)], object)
    assert slots_of(times) == [(360, 43200)]


def test_plain_numbers_have_no_season() -> None:
    with pytest.raises(DataError, match="needs dates"):
        slots_of(np.arange(3.0))


def test_new_year_is_a_day_away_from_new_years_eve() -> None:
    np.testing.assert_array_equal(days_apart(1, np.array([366, 2, 184, 1])), [1, 1, 183, 0])


def test_a_day_alone_is_the_mean_over_years_at_the_same_time_of_day() -> None:
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(len(YEARS), 1, 2, 2))
    date = np.datetime64("2005-03-05T12", "h")
    found = SeasonalClimatology.fit(zip(YEARS, fields, strict=True), slots_of(np.array([date])), window=1)
    same = [n for n, time in enumerate(YEARS) if day_of(time) == day_of(date) and time.item().hour == 12]
    assert len(same) == 3
    np.testing.assert_allclose(found.at(np.array([date]))[0], fields[same].mean(axis=0), rtol=1e-12)


def test_a_window_weighs_days_by_their_distance() -> None:
    fields = np.array([[[[float(day_of(time) == 100)]]] for time in YEARS])
    dates = np.array(["2005-04-10T00", "2005-04-15T00"], "datetime64[h]")  # the days 100 and 105
    found = SeasonalClimatology.fit(zip(YEARS, fields, strict=True), slots_of(dates), window=21).at(dates)
    # The weights 1 - |d| / 10 of 19 days add up to 10; five days off it is a half.
    np.testing.assert_allclose(found.ravel(), [0.1, 0.05], rtol=1e-12)


def test_missing_values_are_left_out_and_what_was_never_seen_stays_missing() -> None:
    field = np.array([[[np.nan, 4.0]]])
    times = np.array(["2001-06-01", "2002-06-01"], "datetime64[D]")
    wanted = slots_of(np.array(["2003-06-01", "2003-12-01"], "datetime64[D]"))
    frames = [(times[0], field), (times[1], np.array([[[2.0, 8.0]]]))]
    found = SeasonalClimatology.fit(frames, wanted, window=3).mean
    np.testing.assert_array_equal(found[0], [[[2.0, 6.0]]])
    assert np.isnan(found[1]).all()


def test_the_order_of_frames_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    fields, order = rng.normal(size=(len(YEARS), 1, 1, 3)), rng.permutation(len(YEARS))
    wanted = slots_of(YEARS[:40])
    one = SeasonalClimatology.fit(zip(YEARS, fields, strict=True), wanted)
    other = SeasonalClimatology.fit(zip(YEARS[order], fields[order], strict=True), wanted)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12, atol=1e-15)


def test_nothing_can_be_fitted_to_no_frame() -> None:
    with pytest.raises(DataError, match="there are none"):
        SeasonalClimatology.fit([], [(1, 0)])
