import numpy as np
import pytest

from pelagos.evaluation.frame_sums.extra_sums import ANOMALIES, ExtraSums, Spectra, anomaly_sums, resolved
from pelagos.preprocessing.grid import Grid, Sides

AXIS = np.arange(8, dtype=np.float64)
SIDES: Sides = ("periodic", "periodic")
GRID = Grid("cartesian", AXIS, AXIS, SIDES, SIDES)
WEIGHTS = np.random.default_rng(9).uniform(1, 2, (8, 8))


def extra(*needs: str) -> ExtraSums:
    return ExtraSums.of(needs, GRID, WEIGHTS, np.array([[1.0, 2.0], [0.0, 3.0]]), (0.5,))


def test_only_what_is_asked_for_takes_room() -> None:
    assert extra("rmse").width == 0
    found = extra("hits", "edge_weight", "weight", "quadrant_power")
    assert found.widths == {"edge_weight": 1, "quadrant_power": 4, "hits": 2}
    assert found.labels[:3] == ["edge_weight", "quadrant_power[0]", "quadrant_power[1]"]


def test_each_statistic_lies_where_its_label_says() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 3, 2, 8, 8))
    kept = extra("edge_squared_error", "edge_weight", "hits", "quantiles_truth")
    found = dict(
        zip(kept.labels, np.moveaxis(kept.gather(p, t, np.arange(2), None, None), -1, 0), strict=True)
    )
    np.testing.assert_array_equal(found["edge_weight"], 32)
    happened = (p[:, 1] > 3) & (t[:, 1] > 3)
    np.testing.assert_allclose(found["hits[1]"][:, 1], (WEIGHTS * happened).sum((1, 2)))
    np.testing.assert_allclose(found["quantiles_truth"], np.median(t, axis=(-2, -1)))


def test_a_method_with_fewer_variables_takes_their_own_thresholds() -> None:
    field = np.full((1, 1, 8, 8), 0.5)
    kept = extra("hits")
    np.testing.assert_array_equal(kept.gather(field, field, np.array([0]), None, None)[0, 0], 0)
    assert kept.gather(field, field, np.array([1]), None, None)[0, 0, 0] == pytest.approx(WEIGHTS.sum())


def test_what_the_grid_or_the_times_do_not_give_is_undefined() -> None:
    field = np.zeros((1, 2, 8, 8))
    kept = extra("band_error", *ANOMALIES, "edge_weight")
    found = dict(zip(kept.labels, kept.gather(field, field, np.arange(2), None, None)[0, 0], strict=True))
    assert np.isnan([found["band_error[0]"], found["anomaly_product"]]).all()
    assert found["edge_weight"] == 32


def test_spectra_are_taken_as_they_are_given() -> None:
    field, energy = np.zeros((1, 2, 8, 8)), np.ones((2, 6))
    kept = extra("top_octave_truth", "top_octave_forecast")
    found = kept.gather(field, field, np.arange(2), Spectra(3 * energy, energy, energy), None)
    np.testing.assert_array_equal(found[0], [[6, 2], [6, 2]])


def test_the_coarser_axis_says_what_is_resolved() -> None:
    assert resolved(GRID) == 4
    oblong = Grid("cartesian", AXIS, np.arange(0.0, 8.0, 0.25), SIDES, SIDES)
    assert resolved(oblong) == 4
    assert resolved(Grid("latlon", AXIS, np.arange(0.0, 360.0, 30.0), ("pole", "pole"), SIDES)) == 6


def test_anomalies_count_where_truth_and_climatology_exist() -> None:
    rng = np.random.default_rng(1)
    p, t, c = rng.normal(size=(3, 2, 8, 8))
    t[0, 0, 0], c[0, 1, 1] = np.nan, np.nan
    w = np.where(np.isnan(t) | np.isnan(c), 0, WEIGHTS)
    found = anomaly_sums(p, t, c, WEIGHTS)
    a, b = (np.nan_to_num(one - c) for one in (p, t))
    np.testing.assert_allclose(found["anomaly_product"], (w * a * b).sum((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found["anomaly_squared_truth"], (w * b**2).sum((1, 2)), rtol=1e-12)


def test_a_failed_forecast_has_an_infinite_anomaly() -> None:
    p = np.zeros((1, 8, 8))
    p[0, 3, 3] = np.nan
    found = anomaly_sums(p, np.ones((1, 8, 8)), np.zeros((1, 8, 8)), WEIGHTS)
    assert found["anomaly_squared_forecast"][0] == np.inf
    assert np.isfinite(found["anomaly_product"][0])
