import numpy as np

from pelagos.evaluation.streaming.chosen_scores import EQUAL, HEADLINE_ALONE, ChosenScores
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.preprocessing.grid import Grid, Sides

OPEN: Sides = ("open", "open")
AXIS = np.arange(4, dtype=np.float64)
EVEN = Grid("cartesian", AXIS, AXIS, OPEN, OPEN)
UNEVEN = Grid("cartesian", np.array([0.0, 1.0, 3.0, 6.0]), AXIS, OPEN, OPEN)
SCALES = np.array([[1.0, 2.0], [0.0, 0.5]])


def test_the_headline_alone_needs_nothing_more() -> None:
    assert HEADLINE_ALONE.extra_sums(EVEN, SCALES).width == 0
    assert not HEADLINE_ALONE.anomalies
    assert HEADLINE_ALONE.regions(UNEVEN) == ()


def test_a_convention_asks_for_what_its_scores_are_made_of() -> None:
    widths = ChosenScores("pdebench").extra_sums(EVEN, SCALES).widths
    assert widths == {"edge_squared_error": 1, "edge_weight": 1, "quadrant_power": 2}
    assert ChosenScores("weatherbench2").anomalies
    assert ChosenScores(None, ("acc",)).anomalies


def test_thresholds_are_deviations_above_the_mean_of_each_variable() -> None:
    kept = ChosenScores(None, ("critical_success",)).extra_sums(EVEN, SCALES)
    np.testing.assert_array_equal(kept.thresholds, [[3, 5, 7], [0.5, 1, 1.5]])


def test_points_weigh_the_same_where_a_convention_has_them_so_and_cells_do_not() -> None:
    assert ChosenScores("mpp").region(EVEN) == WHOLE
    assert ChosenScores("mpp").region(UNEVEN) == EQUAL
    assert ChosenScores("weatherbench2").region(UNEVEN) == WHOLE
    (region,) = ChosenScores("mpp").regions(UNEVEN)
    np.testing.assert_array_equal(region.weights, 1)
