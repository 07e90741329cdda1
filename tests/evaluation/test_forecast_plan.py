import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import StartsConfig, frames_in_split, is_steady, lead_times
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
