from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import baselines
from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.evaluation.streaming.frame_sources import FrameSource, LabelledFrames, StoredFrames, baseline
from pelagos.evaluation.truth import read_initial, read_training, read_truth
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store

STARTS = StartsConfig(every=2, first=1, steps=2)


def collected(source: FrameSource, plan: ForecastPlan, size: int) -> np.ndarray:
    """(sample, lead_time, variable, y, x) all frames of a plan."""
    return np.concatenate([np.stack(list(source.frames(batch)), axis=1) for batch in plan.batches(size)])


def stacked(dataset: xr.Dataset) -> np.ndarray:
    array = dataset.to_dataarray("variable").transpose(
        "trajectory", "start", "lead_time", "variable", "y", "x"
    )
    return array.values.reshape(-1, *array.shape[2:])


@pytest.mark.parametrize("size", [1, 3, 16])
def test_the_truth_comes_frame_by_frame_in_any_batches(store: Store, size: int) -> None:
    plan = STARTS.plan(store)
    found = collected(StoredFrames(store, plan, store.variables), plan, size)
    np.testing.assert_array_equal(found, stacked(read_truth(store, plan, store.variables)))


def labelled_baseline(name: BaselineName, store: Store, plan: ForecastPlan) -> xr.Dataset:
    truth, initial = (read(store, plan, store.variables) for read in (read_truth, read_initial))
    times = truth["lead_time"].values
    if name == "persistence":
        return baselines.persistence(initial, times)
    training = read_training(store, "train", 1)[list(truth.data_vars)]
    if name == "climatology":
        return baselines.Climatology.fit(training).forecast(truth)
    return baselines.LinearStencil.fit(training).forecast(initial, times)


@pytest.mark.parametrize("name", ["persistence", "climatology", "stencil"])
def test_baselines_are_those_of_labelled_forecasts(store: Store, name: BaselineName) -> None:
    plan = STARTS.plan(store)
    found = collected(baseline(name, StoredFrames(store, plan, store.variables), "train"), plan, 3)
    np.testing.assert_allclose(found, stacked(labelled_baseline(name, store, plan)), rtol=1e-14)


def test_extrapolation_goes_on_as_in_the_step_before(store: Store) -> None:
    plan = STARTS.plan(store)
    stored = StoredFrames(store, plan, store.variables)
    found = collected(baseline("linear_extrapolation", stored, "train"), plan, 4)
    one = plan.batches(1)[0].samples[0]
    before, start = store.read(one.trajectory, one.start - 1, one.start + 1).astype(np.float64)
    for step in (1, 2):
        np.testing.assert_allclose(found[0, step - 1], start + step * (start - before), rtol=1e-14)
    early = replace(plan, starts=(0,))
    with pytest.raises(DataError, match="needs the frame 1 before each start"):
        collected(baseline("linear_extrapolation", replace(stored, plan=early), "train"), early, 4)


def test_labelled_forecasts_are_found_by_trajectory_and_start(store: Store) -> None:
    plan = STARTS.plan(store)
    truth = read_truth(store, plan, store.variables)
    found = collected(LabelledFrames.of(truth, store, plan, store.variables), plan, 3)
    np.testing.assert_array_equal(found, stacked(truth))
    with pytest.raises(DataError, match="'start' has 1 entries in the forecast"):
        LabelledFrames.of(truth.isel(start=[0]), store, plan, store.variables)
