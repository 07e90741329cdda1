import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.evaluation.forecast_schema import check_pair, grid_of
from pelagos.evaluation.truth import (
    read_initial,
    read_training,
    read_truth,
    scalar_values,
    static_fields,
    truth_view,
)
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys

PLAN = StartsConfig(every=2, stride=2, steps=2)


def test_the_truth_is_the_stores_frames_at_start_plus_lead(store: Store) -> None:
    plan = PLAN.plan(store)
    truth = read_truth(store, plan, store.variables)
    for t, trajectory in enumerate(plan.trajectories):
        for s, start in enumerate(plan.starts):
            frames = store.read(trajectory, start, start + 5)[[2, 4]]
            for channel, key in enumerate(keys(store.variables)):
                np.testing.assert_array_equal(truth[key].values[t, s], frames[:, channel])


def test_the_view_of_the_truth_is_the_first_forecasts_truth_unread(store: Store) -> None:
    plan = PLAN.plan(store)
    view = truth_view(store, plan, store.variables)
    assert not any(view[key].variable._in_memory for key in keys(store.variables))
    xr.testing.assert_identical(view, read_truth(store, plan, store.variables).isel(trajectory=0, start=0))


def test_the_truth_is_a_valid_forecast_on_the_stores_grid(store: Store) -> None:
    truth = read_truth(store, PLAN.plan(store), store.variables)
    check_pair(truth, truth)
    assert grid_of(truth).shape == store.grid.shape
    assert grid_of(truth).boundary_x == store.grid.boundary_x


def test_initial_frames_are_those_at_the_starts(store: Store) -> None:
    plan = PLAN.plan(store)
    initial = read_initial(store, plan, store.variables[1:])
    assert list(initial.data_vars) == [store.variables[1].key]
    found = initial[store.variables[1].key].values
    expected = [[store.read(t, s, s + 1)[0, 1] for s in plan.starts] for t in plan.trajectories]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(initial["initial_time"], store.times[list(plan.starts)])


def test_training_frames_are_those_of_the_split_a_stride_apart(store: Store) -> None:
    training = read_training(store, "train", 3)
    assert training.sizes["trajectory"] == 4
    np.testing.assert_allclose(training["time"], [0.0, 0.06, 0.12])
    with pytest.raises(DataError, match="not 'valid'"):
        read_training(store, "valid", 1)


def test_static_fields_and_parameters_come_in_the_order_asked_for(store: Store) -> None:
    [speed] = store.static_variables
    np.testing.assert_array_equal(static_fields(store, 1, [speed]), store.static(1))
    assert static_fields(store, 1, []).shape == (0, *store.grid.shape)
    values = scalar_values(store, 0, ["not there", *store.params])
    assert np.isnan(values[0])
    np.testing.assert_array_equal(values[1:], store.scalars(0))


def test_a_plan_reads_trajectories_in_its_own_order(store: Store) -> None:
    forward, backward = (
        read_truth(store, ForecastPlan(members, (0,), 1, 1), store.variables) for members in ((0, 3), (3, 0))
    )
    for key in keys(store.variables):
        np.testing.assert_array_equal(forward[key].values, backward[key].values[::-1])


def test_a_field_that_is_static_in_one_and_moves_in_the_other_is_named(store: Store) -> None:
    plan, static = PLAN.plan(store), store.static_variables
    with pytest.raises(
        DataError, match="lacks the fields in time wave_speed, which the model has; it has displ"
    ):
        read_truth(store, plan, static)
    with pytest.raises(
        DataError, match="lacks the static fields displacement, which the model has; it has wave_speed"
    ):
        static_fields(store, 0, store.variables[:1])
