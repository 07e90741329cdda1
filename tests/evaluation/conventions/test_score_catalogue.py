from typing import get_args

import numpy as np
import pytest

from pelagos.evaluation.conventions.formulas import FORMULAS
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_catalogue import HorizonName, ScoreName, definitions
from pelagos.evaluation.conventions.score_reduction import compute_score
from pelagos.evaluation.frame_sums.grid_scale import grid_scale
from pelagos.evaluation.point_sums import STATISTICS, point_sums

NAMES = [name for group in get_args(ScoreName) for name in (get_args(group) or (group,))]
NO_FORMULA = {*get_args(HorizonName), "drift", "rank_histogram"}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_stands_for_known_formulas_with_names_of_their_own(name: ScoreName) -> None:
    found = definitions(name, members=4, rain=(1.0,))
    assert bool(found) == (name not in NO_FORMULA)
    assert all(one.formula in FORMULAS for one in found)
    assert len({one.name for one in found}) == len(found)
    assert all(one.name.startswith(name) for one in found)


def test_scores_with_units_keep_variables_apart() -> None:
    for name in ("rmse", "mae", "bias", "max_error", "crps", "spread"):
        assert definitions(name)[0].variables == "each"


def test_bands_and_thresholds_are_counted_one_by_one() -> None:
    assert [one.name for one in definitions("band_rmse")] == [
        "band_rmse_0_3",
        "band_rmse_4_11",
        "band_rmse_12_on",
    ]
    assert [one.entries for one in definitions("critical_success")] == [(0, 1), (1, 2), (2, 3)]


def test_stripes_have_the_checkerboard_score_1_and_failed_forecasts_an_infinite_one() -> None:
    score, ratio = (
        definition for name in ("checkerboard", "checkerboard_ratio") for definition in definitions(name)
    )
    truth = np.broadcast_to(3 * (-1.0) ** np.arange(8), (2, 6, 8)).copy()
    forecast = 2 * truth
    forecast[1, 2, 2] = np.nan
    weights = np.ones((6, 8))
    points = point_sums(forecast, truth, weights, np.ones((2, 2)))
    sums = dict(zip(STATISTICS, points.T, strict=True)) | grid_scale(forecast, truth, weights, (False, False))
    statistics = SampleStatistics(
        {name: one.reshape(2, 1, 1) for name, one in sums.items()}, {"height": "height"}, np.ones(1)
    )
    counts = np.array([[2.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(compute_score(score, statistics, counts).value, [1, np.inf])
    np.testing.assert_array_equal(compute_score(ratio, statistics, counts).value, [4, np.inf])


def test_the_climate_of_forecasts_is_measured_against_the_truths() -> None:
    variability, spectrum = (
        definition for name in ("deviation_ratio", "spectrum_factor") for definition in definitions(name)
    )
    # Two forecasts of one variable: energies and variances are added up before they are compared.
    truth = np.array([[100.0, 8.0, 4.0, 2.0, 1e-9], [100.0, 8.0, 4.0, 0.0, 1e-9]])
    forecast = truth * [[5, 1, 3, 1, 50], [5, 1, 1, 0.5, 50]]
    statistics = SampleStatistics(
        {
            "centred_squared_truth": np.array([[[1.0]], [[3.0]]]),
            "centred_squared_forecast": np.array([[[8.0]], [[1.0]]]),
            "spectrum_truth": truth[:, None, None],
            "spectrum_forecast": forecast[:, None, None],
            "max_absolute_error": np.ones((2, 1, 1)),
        },
        {"height": "height"},
        np.ones(1),
    )
    counts = np.array([[1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(compute_score(variability, statistics, counts).value, [1.5, np.sqrt(8)])
    # Wave 2 has (12 + 4) / 8; the mean and what the truth has next to none of are left out.
    np.testing.assert_allclose(compute_score(spectrum, statistics, counts).value, [2, 3])
    failed = {**statistics.arrays, "max_absolute_error": np.array([[[np.inf]], [[1.0]]])}
    failed["spectrum_forecast"] = np.where([[[[True]]], [[[False]]]], np.inf, failed["spectrum_forecast"])
    for definition in (variability, spectrum):
        found = compute_score(definition, SampleStatistics(failed, statistics.group, np.ones(1)), counts)
        assert np.isinf(found.value).all()
