from dataclasses import replace

import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.report.comparison_report import comparison_report, merged
from pelagos.evaluation.truth import read_truth
from pelagos.evaluation.verification import Evaluation, evaluate_forecasts
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store


def evaluation(store: Store, factor: float, starts: StartsConfig) -> Evaluation:
    plan = starts.plan(store)
    truth = read_truth(store, plan, store.variables)
    forecast = (truth * factor).assign_attrs(truth.attrs)
    facts = {"net": {"model": f"runs/{factor}", "horizon": None}}
    return evaluate_forecasts({"net": forecast}, store, plan, store.variables, ["persistence"], models=facts)


def test_models_of_one_name_are_told_apart_and_tested_on_the_same_starts(store: Store) -> None:
    starts = StartsConfig(every=1, steps=2)
    runs = {"old": evaluation(store, 1.2, starts), "new": evaluation(store, 1.1, starts)}
    report, numbers, tests = comparison_report(runs)
    assert numbers.evaluation.methods == ("old: net", "new: net", "persistence")
    [rollout] = [
        one
        for one in tests
        if (one["score"], one["first"], one["second"]) == ("rollout", "old: net", "new: net")
    ]
    np.testing.assert_allclose(rollout["difference"]["value"], 0.1, atol=1e-6)
    assert (rollout["lower"], rollout["ties"]) == (0, 0)
    page = report.html()
    for text in ("old and new side by side", "Paired tests", "runs/1.2", "fall below 0.05 by chance alone"):
        assert text in page


def test_evaluations_of_other_forecasts_are_not_compared(store: Store) -> None:
    first = evaluation(store, 1.1, StartsConfig(every=1, steps=2))
    with pytest.raises(DataError, match=r"lead_times is \[.*\] and \["):
        merged({"a": first, "b": evaluation(store, 1.1, StartsConfig(every=1, steps=3))})
    with pytest.raises(DataError, match="along start"):
        merged({"a": first, "b": evaluation(store, 1.1, StartsConfig(every=2, steps=2))})
    other = replace(first, scores={**first.scores, "version": "2"})
    with pytest.raises(DataError, match="version is 1 and 2"):
        merged({"a": first, "b": other})
