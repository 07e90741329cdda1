import numpy as np

from pelagos.evaluation.frame_sums.edge_sums import edge_sums


def test_an_error_of_one_everywhere_is_the_number_of_edge_points() -> None:
    found = edge_sums(np.ones((2, 5, 7)), np.zeros((2, 5, 7)))
    np.testing.assert_array_equal(found["edge_squared_error"], 24)
    np.testing.assert_array_equal(found["edge_weight"], 24)


def test_only_edges_count_and_corners_count_twice() -> None:
    truth = np.zeros((3, 4, 4))
    forecast = truth.copy()
    forecast[0, 1:-1, 1:-1] = 9
    forecast[1, 0, 2] = 3
    forecast[2, -1, 0] = 3
    np.testing.assert_array_equal(edge_sums(forecast, truth)["edge_squared_error"], [0, 9, 18])


def test_edges_without_truth_do_not_count_and_failures_do() -> None:
    truth = np.zeros((1, 4, 4))
    truth[0, 0] = np.nan
    found = edge_sums(np.ones((1, 4, 4)), truth)
    # The four corners' points of the first row are lost with both of their edges.
    np.testing.assert_array_equal(found["edge_weight"], 10)
    np.testing.assert_array_equal(found["edge_squared_error"], 10)
    failed = np.zeros((1, 4, 4))
    failed[0, -1, 1] = np.nan
    np.testing.assert_array_equal(edge_sums(failed, truth)["edge_squared_error"], np.inf)
