import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.score_summary import describe_left_out
from pelagos.evaluation.truth import read_initial, read_truth
from pelagos.evaluation.verification import evaluate_forecasts
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.frame_reader import MemoryReader
from pelagos.preprocessing.store.store import Store

STARTS = StartsConfig(every=2, steps=2)


def test_the_truth_scores_zero_and_beats_persistence(store: Store) -> None:
    plan = STARTS.plan(store)
    truth = read_truth(store, plan, store.variables)
    found = evaluate_forecasts({"perfect": truth}, store, plan, store.variables, ["persistence", "stencil"])
    methods = found.scores["methods"]
    assert list(methods) == ["perfect", "persistence", "stencil"]
    assert methods["perfect"]["one_step"] == methods["perfect"]["rollout"] == 0
    assert 0 < methods["stencil"]["one_step"] < methods["persistence"]["one_step"]


def test_scores_are_json_and_say_what_was_scored(store: Store) -> None:
    plan = STARTS.plan(store)
    truth = read_truth(store, plan, store.variables)
    found = evaluate_forecasts({"perfect": truth}, store, plan, store.variables)
    assert json.loads(json.dumps(found.scores)) == found.scores
    assert found.scores["dataset"] == "waves"
    assert found.scores["starts"] == len(plan.starts)
    assert found.scores["lead_times"] == pytest.approx([0.02, 0.04])


def test_errors_are_those_of_all_trajectories_at_once(store: Store) -> None:
    plan = STARTS.plan(store)
    truth = read_truth(store, plan, store.variables)
    forecast = (truth * 1.1).assign_attrs(truth.attrs)
    found = evaluate_forecasts({"net": forecast}, store, plan, store.variables).errors["net"]
    whole = scores.relative_l1(scores.accumulate(forecast, truth))
    np.testing.assert_array_equal(found.values, whole.values)
    np.testing.assert_allclose(found.values, 0.1, rtol=1e-4)


def test_a_baseline_that_cannot_be_fitted_says_why(store: Store) -> None:
    plan = STARTS.plan(store)
    with pytest.raises(DataError, match="has the splits train, test, not 'valid'"):
        evaluate_forecasts({}, store, plan, store.variables, ["climatology"], "valid")


def with_holes(store: Store, share: float) -> Store:
    """The store with values missing at random, elsewhere in each frame."""
    rng = np.random.default_rng(1)
    state = np.stack([store.read(n, 0, store.num_times) for n in range(store.num_trajectories)])
    state[rng.random(state.shape) < share] = np.nan
    return replace(store, frames=MemoryReader(state), num_missing=int(np.isnan(state).sum()))


def test_points_are_scored_where_both_exist_and_what_is_left_out_is_counted(store: Store) -> None:
    holes, plan = with_holes(store, 0.1), STARTS.plan(store)
    truth, initial = (read(holes, plan, holes.variables) for read in (read_truth, read_initial))
    found = evaluate_forecasts({}, holes, plan, holes.variables, ["persistence", "climatology"]).scores
    for values in found["methods"].values():
        assert np.isfinite(values["rollout"])
        assert np.isfinite([group["rmse"] for group in values["groups"].values()]).all()
        assert values["failed"]["forecasts"] == 0
    name = "displacement"
    p, t = xr.broadcast(initial[name], truth[name])
    missing = int((t.notnull() & p.isnull()).sum())
    assert found["methods"]["persistence"]["left_out"][name] == missing > 0
    assert found["points"][name] == int(truth[name].count())
    expected = float((((p - t) ** 2).isel(lead_time=0)).mean()) ** 0.5
    assert found["methods"]["persistence"]["groups"][name]["rmse"][0] == pytest.approx(expected, rel=1e-6)
    assert any(f"of the points of {name} are left out" in line for line in describe_left_out(found))


def test_a_forecast_that_fails_where_it_had_a_start_is_still_infinitely_wrong(store: Store) -> None:
    holes, plan = with_holes(store, 0.1), STARTS.plan(store)
    forecast = read_truth(holes, plan, holes.variables)
    initial = read_initial(holes, plan, holes.variables)
    y, x = np.argwhere(
        np.isfinite(initial["displacement"][0, 0].values + forecast["displacement"][0, 0, 0].values)
    )[0]
    forecast["displacement"][0, 0, 0, y, x] = np.nan
    found = evaluate_forecasts({"net": forecast}, holes, plan, holes.variables)
    assert found.scores["methods"]["net"]["failed"]["forecasts"] >= 1


def test_a_method_may_have_fewer_variables_than_another(store: Store) -> None:
    plan = STARTS.plan(store)
    truth = read_truth(store, plan, store.variables)
    forecasts = {"one": truth[["displacement"]], "all": truth}
    methods = evaluate_forecasts(forecasts, store, plan, store.variables, ["persistence"]).scores["methods"]
    assert list(methods["one"]["groups"]) == ["displacement"]
    assert list(methods["persistence"]["groups"]) == list(methods["all"]["groups"])


def test_scores_say_the_split_and_the_models(store: Store) -> None:
    plan = StartsConfig(split="train", steps=2).plan(store)
    truth = read_truth(store, plan, store.variables)
    facts = {"net": {"model": "runs/base/model", "horizon": 0.02}}
    found = evaluate_forecasts({"net": truth}, store, plan, store.variables, models=facts).scores
    assert (found["split"], found["training_split"]) == ("train", "train")
    assert found["models"] == facts
    assert found["scales"]["displacement"]["std"] == pytest.approx(store.stats.std[0])
