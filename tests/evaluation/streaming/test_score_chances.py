import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.conventions.score_catalogue import ScoreName
from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.score_summary import json_values
from pelagos.evaluation.streaming.chosen_scores import ChosenScores
from pelagos.evaluation.streaming.region import RegionConfig, make_regions
from pelagos.evaluation.streaming.score_archive import labelled
from pelagos.evaluation.truth import read_truth
from pelagos.evaluation.verification import (
    Evaluation,
    describe_scores,
    evaluate_forecasts,
    make_evaluator,
)
from pelagos.preprocessing.store.store import Store

PLAN = ForecastPlan((4, 5), (0, 2), 1, 3, "test")
NAMES = get_args(ScoreName)


@pytest.fixture(scope="module")
def evaluation(store: Store) -> Evaluation:
    return evaluate_forecasts(
        {}, store, PLAN, store.variables, ("persistence", "stencil"), chosen=ChosenScores("apebench", NAMES)
    )


def test_every_headline_number_stands_with_its_interval(evaluation: Evaluation) -> None:
    for values in evaluation.scores["methods"].values():
        interval = values["intervals"]
        for name in ("one_step", "rollout"):
            assert interval[name]["value"] == pytest.approx(values[name], rel=1e-12)
            normalised = interval[f"normalised_{name}"]
            assert normalised["value"] == pytest.approx(values["normalised"][name], rel=1e-12)
            assert normalised["low"] <= normalised["value"] <= normalised["high"]
        pooled = values["pooled_relative_l2"][0]
        assert interval["pooled_relative_l2"]["value"] == pytest.approx(pooled, rel=1e-12)


def test_the_curves_of_groups_and_regions_stand_with_their_intervals(store: Store) -> None:
    left = make_regions(
        (RegionConfig(name="left", x=(float(store.grid.x[0]), float(store.grid.x[3]))),), store
    )
    evaluator = make_evaluator(store, PLAN, store.variables, {}, ("persistence",), regions=left)
    kept = {name: labelled(state, store.time_units) for name, state in evaluator.score_all(4).items()}
    values = describe_scores(store, evaluator.plan, kept, "train", {})["methods"]["persistence"]
    intervals = values["intervals"]
    for summary, curves in (
        (values["groups"], intervals["groups"]),
        (values["regions"]["left"]["groups"], intervals["regions"]["left"]),
    ):
        assert set(summary) == set(curves)
        for group, found in curves.items():
            assert set(found) == set(summary[group]) - {"failed"}
            for name, curve in found.items():
                np.testing.assert_allclose(curve["value"], summary[group][name], rtol=1e-9, atol=1e-15)
                assert all(low <= high for low, high in zip(curve["low"], curve["high"], strict=True))


def test_all_that_is_asked_for_is_there_or_said_to_be_missing_in_valid_json(evaluation: Evaluation) -> None:
    json.dumps(json_values(evaluation.scores), allow_nan=False)
    values = evaluation.scores["methods"]["persistence"]
    assert values["without"] == [
        "acc",
        "pooled_acc",
        "skill",
        "crps",
        "fair_crps",
        "energy_score",
        "spread",
        "ensemble_mean_rmse",
        "spread_skill",
        "seeps",
        "fss",
        "rank_histogram",
    ]
    for name in ("relative_l1", "band_rmse_0_3", "top_octave_ratio", "checkerboard", "critical_success_1std"):
        assert name in values["scores"]
    assert set(values["horizons"]) == {"correlation_time", "valid_time", "blow_up_time"}
    assert set(evaluation.scores["methods"]["stencil"]["horizons"]) == {
        "correlation_time",
        "valid_time",
        "blow_up_time",
        "skill_horizon_persistence",
    }


def test_a_forecast_that_repeats_itself_loses_no_sharpness_and_no_number(evaluation: Evaluation) -> None:
    values = evaluation.scores["methods"]["persistence"]
    assert values["horizons"]["blow_up_time"]["share"]["value"] == 0
    ratios = values["scores"]["top_octave_ratio"]["groups"]
    assert all(np.isfinite(one["value"]) for one in ratios.values())


def test_two_trajectories_of_two_starts_are_few_blocks(evaluation: Evaluation) -> None:
    assert evaluation.scores["resampling"]["few_blocks"]
    assert evaluation.scores["resampling"]["blocks"] == 2


def test_an_ensemble_is_scored_as_a_whole(store: Store) -> None:
    plan = ForecastPlan((4, 5), (0, 2), 1, 2, "test", (0, 1, 2))
    truth = read_truth(store, replace(plan, members=()), store.variables)
    shifts = xr.DataArray([-1.0, 0.0, 4.0], dims="member", coords={"member": [0, 1, 2]})
    dims = ("trajectory", "start", "member", "lead_time", "y", "x")
    model = truth.map(lambda field: (field.astype(np.float64) + shifts).transpose(*dims), keep_attrs=True)
    chosen = ChosenScores(None, ("crps", "fair_crps", "spread", "ensemble_mean_rmse", "rank_histogram"), 3)
    found = evaluate_forecasts({"model": model}, store, plan, store.variables, chosen=chosen).scores
    values = found["methods"]["model"]
    key = store.variables[0].key
    scores = {name: one["groups"][key] for name, one in values["scores"].items()}
    # E|x − t| = 5/3; of the pairs' distances 1, 5 and 4 the mean is 10/3, over all nine pairs 20/9.
    assert scores["fair_crps"]["value"] == pytest.approx(5 / 3 - 10 / 6, abs=1e-6)
    assert scores["crps"]["value"] == pytest.approx(5 / 3 - 20 / 18, rel=1e-6)
    assert scores["spread"]["value"] == pytest.approx(np.std([-1, 0, 4], ddof=1), rel=1e-6)
    assert scores["ensemble_mean_rmse"]["value"] == pytest.approx(1, rel=1e-6)
    assert scores["crps"]["n"] == 4
    assert values["without"] == []
    # One member is below the truth and one the same: the second and the third rank share all points.
    np.testing.assert_allclose(values["rank_histogram"][key], [0, 0.5, 0.5, 0])
