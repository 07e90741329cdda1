import json

import numpy as np
import pytest

from pelagos.evaluation import scores
from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.truth import read_truth
from pelagos.evaluation.verification import evaluate_forecasts
from pelagos.preprocessing.errors import DataError
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
    found = evaluate_forecasts({"truth": truth}, store, plan, store.variables)
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
