import numpy as np

from pelagos.evaluation.frame_sums.tail_counts import frame_quantiles, tail_counts

WEIGHTS = np.array([[1.0, 2.0], [3.0, 4.0]])


def test_each_point_is_in_one_cell_of_the_table_with_its_weight() -> None:
    truth, forecast = np.array([[[5.0, 5.0], [0.0, 0.0]]]), np.array([[[5.0, 0.0], [5.0, 0.0]]])
    found = tail_counts(forecast, truth, np.array([[1.0, 9.0]]), WEIGHTS)
    assert {name: value[0].tolist() for name, value in found.items()} == {
        "hits": [1, 0],
        "misses": [2, 0],
        "false_alarms": [3, 0],
        "correct_rejections": [4, 10],
    }


def test_a_failed_forecast_is_wrong_everywhere_and_a_missing_truth_is_nowhere() -> None:
    truth = np.array([[[5.0, np.nan], [0.0, 0.0]]])
    found = tail_counts(np.full((1, 2, 2), np.nan), truth, np.array([[1.0]]), WEIGHTS)
    assert (found["misses"][0, 0], found["false_alarms"][0, 0]) == (1, 7)
    assert found["hits"][0, 0] == found["correct_rejections"][0, 0] == 0


def test_quantiles_of_a_ramp_are_its_values() -> None:
    ramp = np.arange(101.0).reshape(1, 1, 101)
    found = frame_quantiles(2 * ramp, ramp, (0.5, 0.99))
    np.testing.assert_allclose(found["quantiles_truth"], [[50, 99]])
    np.testing.assert_allclose(found["quantiles_forecast"], [[100, 198]])


def test_quantiles_of_nothing_are_undefined_and_of_a_failure_infinite() -> None:
    found = frame_quantiles(
        np.full((2, 2, 2), np.nan), np.stack([np.zeros((2, 2)), np.full((2, 2), np.nan)]), (0.5,)
    )
    np.testing.assert_array_equal(found["quantiles_forecast"], [[np.inf], [np.nan]])
