from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.score_summary import summarise

Make = Callable[..., xr.Dataset]


def test_a_constant_relative_error_is_every_score(make: Make, rng: np.random.Generator) -> None:
    truth = make({"u": rng.normal(3, 1, (4, 3, 5, 6)), "v": rng.normal(3, 1, (4, 3, 5, 6))})
    found = summarise(scores.accumulate((truth * 1.25).assign_attrs(truth.attrs), truth))
    assert found["one_step"] == pytest.approx(0.25)
    assert found["rollout"] == pytest.approx(0.25)
    np.testing.assert_allclose(found["pooled_relative_l2"], 0.25)
    assert list(found["groups"]) == ["u", "v"]


def test_the_rollout_is_the_mean_of_the_curve_that_begins_with_one_step(make: Make) -> None:
    growth = np.array([0.1, 0.2, 0.6])[None, :, None, None]
    ones = np.ones((2, 3, 4, 4))
    found = summarise(scores.accumulate(make({"u": ones + growth}), make({"u": ones})))
    np.testing.assert_allclose(found["by_lead_time"], [0.1, 0.2, 0.6])
    assert found["one_step"] == found["by_lead_time"][0]
    assert found["rollout"] == pytest.approx(0.3)
    np.testing.assert_allclose(found["groups"]["u"]["bias"], [0.1, 0.2, 0.6])


def test_one_bad_forecast_moves_the_pooled_error_but_not_the_median(make: Make) -> None:
    ones = np.ones((5, 1, 4, 4))
    error = np.array([0.1, 0.1, 0.1, 0.1, 9.0])[:, None, None, None]
    found = summarise(scores.accumulate(make({"u": ones + error}), make({"u": ones})))
    assert found["one_step"] == pytest.approx(0.1)
    assert found["groups"]["u"]["rmse"][0] == pytest.approx(np.sqrt((4 * 0.01 + 81) / 5))
