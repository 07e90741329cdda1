import numpy as np
import pytest

from pelagos.evaluation.conventions.score_catalogue import ScoreName
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.conventions.score_reduction import compute_score
from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.streaming.chosen_scores import ChosenScores
from pelagos.evaluation.streaming.evaluator import Evaluator
from pelagos.evaluation.streaming.kept_statistics import sample_axes, sample_statistics
from pelagos.evaluation.streaming.score_archive import labelled
from pelagos.evaluation.truth import read_initial, read_truth
from pelagos.evaluation.verification import make_evaluator
from pelagos.preprocessing.store.store import Store

PLAN = ForecastPlan((4, 5), (0, 2), 1, 3, "test")


@pytest.fixture
def evaluator(store: Store) -> Evaluator:
    names: tuple[ScoreName, ...] = ("band_rmse", "checkerboard", "quantile_error")
    return make_evaluator(
        store, PLAN, store.variables, {}, ("persistence",), chosen=ChosenScores("pdebench", names)
    )


def test_statistics_are_those_of_each_forecast(store: Store, evaluator: Evaluator) -> None:
    kept = labelled(evaluator.score_all(4)["persistence"], store.time_units)
    statistics = sample_statistics(kept)
    truth, initial = read_truth(store, PLAN, store.variables), read_initial(store, PLAN, store.variables)
    key = statistics.variables[0]
    error = (initial[key] - truth[key]).transpose(*truth[key].dims).values.astype(np.float64)
    squares = (error**2).sum((-2, -1)).reshape(4, 3)
    np.testing.assert_allclose(statistics.array("squared_error")[:, :, 0], squares, rtol=1e-6)
    edges = [error[..., 0, :], error[..., -1, :], error[..., :, 0], error[..., :, -1]]
    expected = sum((edge**2).sum(-1) for edge in edges)
    np.testing.assert_allclose(
        statistics.array("edge_squared_error")[:, :, 0], np.reshape(expected, (4, 3)), rtol=1e-6
    )
    trajectories, starts = sample_axes(kept)
    np.testing.assert_array_equal(trajectories, [4, 4, 5, 5])
    np.testing.assert_array_equal(starts, [0, 2, 0, 2])


def test_statistics_of_several_entries_keep_them_and_others_have_none(
    store: Store, evaluator: Evaluator
) -> None:
    statistics = sample_statistics(labelled(evaluator.score_all(4)["persistence"], store.time_units))
    assert statistics.array("band_error").shape == (4, 3, len(store.variables), 3)
    assert statistics.array("alternating_forecast").shape == (4, 3, len(store.variables))
    assert not statistics.has(("anomaly_product",))


def test_bands_share_out_the_whole_error(store: Store, evaluator: Evaluator) -> None:
    statistics = sample_statistics(labelled(evaluator.score_all(4)["persistence"], store.time_units))
    bands = 2 * statistics.array("band_error").sum(axis=-1)
    mean_square = statistics.array("squared_error") / statistics.array("weight")
    np.testing.assert_allclose(bands, mean_square, rtol=1e-9, atol=1e-18)


def test_batches_do_not_matter(store: Store, evaluator: Evaluator) -> None:
    one, other = (
        sample_statistics(labelled(evaluator.score_all(size)["persistence"], store.time_units))
        for size in (1, 4)
    )
    for name in one.arrays:
        np.testing.assert_array_equal(one.array(name), other.array(name))
    definition = ScoreDefinition(name="x", formula="fourier_rmse", pool_samples=True)
    values = [compute_score(definition, found, np.ones((1, 4))).value for found in (one, other)]
    np.testing.assert_array_equal(values[0], values[1])
