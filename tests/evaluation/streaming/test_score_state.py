"""States cover parts of a plan: whatever overlaps or belongs elsewhere is refused."""

from dataclasses import replace

import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.streaming.score_plan import THINNED, PlanPart, ScorePlan
from pelagos.evaluation.streaming.score_state import ScoreState
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store


@pytest.fixture(scope="module")
def plan(store: Store) -> ScorePlan:
    forecasts = StartsConfig(every=1, steps=3).plan(store)
    names = tuple(variable.key for variable in store.variables)
    scales = dict.fromkeys(names, (0.0, 1.0))
    return ScorePlan.of(forecasts, store, store.variables, {"net": names}, scales, pictured=3)


def filled(plan: ScorePlan, samples: slice, leads: slice, value: int) -> ScoreState:
    state = ScoreState.empty(plan, "net", PlanPart(samples, leads))
    for array in state.arrays.values():
        array[...] = value
    return state


def test_samples_take_their_places_and_pools_are_added(plan: ScorePlan) -> None:
    whole = ScoreState.empty(plan, "net", plan.whole)
    for samples, value in ((slice(0, 3), 1), (slice(3, 8), 2)):
        for leads in (slice(0, 1), slice(1, 3)):
            whole.merge(filled(plan, samples, leads, value))
    assert whole.done.all()
    np.testing.assert_array_equal(whole.arrays["points"][:, 0, 0, 0, 0], [1, 1, 1, 2, 2, 2, 2, 2])
    np.testing.assert_array_equal(whole.arrays["histogram"], 3)
    np.testing.assert_array_equal(whole.arrays["maps"], 3)
    np.testing.assert_array_equal(whole.arrays["pictures"], 2)


@pytest.mark.parametrize("count", [1, 5, 64, 65, 300, 2000])
def test_thinned_lead_times_are_spread_evenly_and_hold_those_shown(plan: ScorePlan, count: int) -> None:
    other = replace(plan, lead_times=np.arange(1.0, count + 1, dtype=np.float64))
    thinned = other.thinned
    assert len(thinned) == min(count, len(thinned)) <= THINNED
    assert (len(thinned) == count) == (count <= THINNED)
    assert set(other.shown) <= set(thinned)
    assert np.diff(thinned).max(initial=1) <= max(1, -(-count // (THINNED - 5)))


def test_an_overlap_is_refused_and_changes_nothing(plan: ScorePlan) -> None:
    whole = ScoreState.empty(plan, "net", plan.whole)
    whole.merge(filled(plan, slice(0, 3), slice(0, 3), 1))
    with pytest.raises(DataError, match="samples 2 to 3 at lead times 2 to 2 are counted already"):
        whole.merge(filled(plan, slice(2, 4), slice(2, 3), 1))
    np.testing.assert_array_equal(whole.arrays["histogram"], 1)
