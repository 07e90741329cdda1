from itertools import product
from math import prod

import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import (
    ForecastPlan,
    ForecastStart,
    StartsConfig,
    frames_in_split,
    is_steady,
    lead_times,
)
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store


def test_a_plan_has_every_start_from_which_a_forecast_fits(store: Store) -> None:
    plan = StartsConfig(first=1, every=2, steps=2).plan(store)
    assert plan.starts == (1, 3)  # from frame 5 the second step would need frame 7 of 0 to 6
    assert len(plan.trajectories) == 2


def test_without_a_distance_there_is_one_start(store: Store) -> None:
    assert StartsConfig(steps=3).plan(store).starts == (0,)


def test_all_frames_of_a_plan_lie_in_its_split(store: Store) -> None:
    for split in ("train", "test"):
        plan = StartsConfig(split=split, every=1, stride=2, steps=2).plan(store)
        inside = frames_in_split(store, split)
        for start in plan.starts:
            assert inside[list(plan.trajectories), start : start + 5].all()


def test_trajectories_are_limited_to_the_first_of_the_split(store: Store) -> None:
    whole, limited = (StartsConfig(trajectories=number).plan(store) for number in (None, 1))
    assert limited.trajectories == whole.trajectories[:1]


def test_a_forecast_longer_than_the_split_is_refused_with_its_length(store: Store) -> None:
    with pytest.raises(DataError, match=r"no forecast of 4 steps of 2 frames .* have 7 frames"):
        StartsConfig(steps=4, stride=2).plan(store)


def test_an_unknown_split_is_refused_with_those_there_are(store: Store) -> None:
    with pytest.raises(DataError, match="has the splits train, test, not 'valid'"):
        StartsConfig(split="valid").plan(store)


def test_lead_times_are_multiples_of_the_step(store: Store) -> None:
    assert not is_steady(store)
    plan = StartsConfig(steps=3, stride=2).plan(store)
    np.testing.assert_allclose(lead_times(store, plan), [0.04, 0.08, 0.12])


@pytest.mark.parametrize("members", [(), (0, 1, 2)])
@pytest.mark.parametrize("size", [1, 2, 4, 7, 100])
def test_batches_hold_every_forecast_once_and_in_order(members: tuple[int, ...], size: int) -> None:
    plan = ForecastPlan((4, 5, 9), (0, 2, 6, 7), 2, 3, members=members)
    batches = plan.batches(size)
    expected = [ForecastStart(*one) for one in product(plan.trajectories, plan.starts, members or (0,))]
    assert [one for batch in batches for one in batch.samples] == expected
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert all(prod(batch.shape) == len(batch.samples) <= size for batch in batches)


def test_a_smaller_batch_stands_only_at_the_end_of_an_axis() -> None:
    plan = ForecastPlan((0, 1), (0, 1, 2, 3, 4), 1, 1)
    assert [(batch.cell, batch.shape) for batch in plan.batches(3)] == [
        ((0, 0, 0), (1, 3, 1)),
        ((0, 1, 0), (1, 2, 1)),
        ((1, 0, 0), (1, 3, 1)),
        ((1, 1, 0), (1, 2, 1)),
    ]
