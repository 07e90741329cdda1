import json
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.forecast_schema import normalised
from pelagos.evaluation.score_summary import describe_failures, json_values, summarise

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


def test_failed_forecasts_are_counted_though_the_median_does_not_see_them(make: Make) -> None:
    ones = np.ones((10, 3, 4, 4))
    forecast = make({"u": ones + 0.1, "v": ones + 0.1})
    forecast["u"][:4, 2, 0, 0] = np.nan
    forecast["v"][3:5, 1:, 0, 0] = np.inf
    found = summarise(scores.accumulate(forecast, make({"u": ones, "v": ones})))
    assert found["rollout"] == pytest.approx(0.1)
    assert found["failed"] == {"forecasts": 5, "of": 10, "by_lead_time": [0, 2, 5]}
    assert found["groups"]["u"]["failed"] == [0, 0, 4]
    assert describe_failures(found) == "5 of 10"
    assert found["groups"]["u"]["rmse"][2] == np.inf


def test_normalised_scores_are_those_of_normalised_fields(make: Make, rng: np.random.Generator) -> None:
    group = {"u": "wind", "v": "wind"}
    shape = (4, 3, 5, 6)
    truth = make({name: rng.normal(280, 2, shape) for name in ("u", "v", "t")}, group=group)
    forecast = (truth + rng.normal(size=shape)).assign_attrs(truth.attrs)
    scales = {"u": (280.0, 2.0), "v": (279.0, 1.5), "t": (0.0, 4.0)}
    mean, std = ({name: scale[part] for name, scale in scales.items()} for part in (0, 1))
    found = summarise(scores.accumulate(forecast, truth, scales=scales))
    same = summarise(scores.accumulate(normalised(forecast, mean, std), normalised(truth, mean, std)))
    assert found["normalised"]["by_lead_time"] == pytest.approx(same["by_lead_time"])
    assert found["one_step"] < 0.01 < found["normalised"]["one_step"]


def test_scores_become_json_whatever_happened(make: Make) -> None:
    forecast = make({"u": np.full((1, 2, 4, 4), np.nan)})
    found = summarise(scores.accumulate(forecast, make({"u": np.ones((1, 2, 4, 4))})))
    text = json.dumps(json_values(found), allow_nan=False)
    assert json.loads(text)["one_step"] is None
    assert json.loads(text)["failed"] == {"forecasts": 1, "of": 1, "by_lead_time": [1, 1]}
