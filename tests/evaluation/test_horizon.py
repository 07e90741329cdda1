import numpy as np

from pelagos.evaluation.horizon import (
    blow_up_time,
    correlation_horizon,
    horizon_estimate,
    skill_horizon,
    valid_time,
)

TIMES = np.array([1.0, 2.0, 3.0, 4.0])
NEVER = np.zeros(4, np.bool_)


def test_a_horizon_is_the_first_crossing_whatever_comes_after() -> None:
    correlation = np.array([[1, 0.9, 0.99, 0.5], [1, 1, 1, 1], [0.1, 1, 1, 1]])
    np.testing.assert_array_equal(correlation_horizon(correlation, TIMES), [2, np.inf, 1])
    np.testing.assert_array_equal(correlation_horizon(correlation, TIMES, 0.8), [4, np.inf, 1])


def test_lead_times_without_a_truth_count_neither_way() -> None:
    correlation = np.array([[np.nan, np.nan, 1, 0.5], [np.nan] * 4])
    np.testing.assert_array_equal(correlation_horizon(correlation, TIMES), [4, np.nan])


def test_a_failed_forecast_is_no_longer_valid() -> None:
    np.testing.assert_array_equal(valid_time(np.array([[0.1, 0.2, np.inf, np.inf]]), TIMES), [3])
    np.testing.assert_array_equal(correlation_horizon(np.array([[1, -np.inf, 1, 1]]), TIMES), [2])


def test_skill_ends_where_the_baseline_is_as_good() -> None:
    error = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.1, 0.1, 0.1]])
    np.testing.assert_array_equal(skill_horizon(error, np.full((2, 4), 0.3), TIMES), [3, np.inf])


def test_a_forecast_blows_up_when_it_is_no_number_or_ten_times_too_large() -> None:
    reference = np.array([[1.0, 1.0, 3.0, 3.0], [1e-9] * 4, [1.0] * 4])
    rms = np.array([[1.0, 9.0, 31.0, 1.0], [0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, np.nan]])
    np.testing.assert_array_equal(blow_up_time(rms, reference, TIMES), [3, np.inf, 4])


def test_the_median_horizon_is_beyond_the_end_where_half_of_the_forecasts_are_still_good() -> None:
    counts = np.array([[1.0, 1, 1, 1], [4, 0, 0, 0], [0, 4, 0, 0]])
    times = np.array([2.0, 3.0, np.inf, np.inf])
    found = horizon_estimate(times, counts, NEVER)
    assert (found.value, found.low, found.high, found.n) == (np.inf, 2, 3, 4)
    assert found.to_json()["value"] is None
    assert horizon_estimate(times, counts, NEVER, "share").value == 0.5


def test_forecasts_without_a_horizon_count_neither_way() -> None:
    found = horizon_estimate(np.array([2.0, np.nan]), np.ones((1, 2)), NEVER[:2])
    assert (found.value, found.n) == (2, 1)
