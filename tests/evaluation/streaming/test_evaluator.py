"""Scores don't depend on how forecasts are cut into batches and windows, nor on their order."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import conservation, scores, spectra
from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.evaluation.streaming import evaluator, score_plan
from pelagos.evaluation.streaming.evaluator import Evaluator, moments_of
from pelagos.evaluation.streaming.frame_sources import LabelledFrames, StoredFrames
from pelagos.evaluation.streaming.region import RegionConfig, make_regions
from pelagos.evaluation.streaming.score_archive import labelled, sums_of
from pelagos.evaluation.streaming.score_state import ScoreState, arrays_of
from pelagos.evaluation.truth import read_initial, read_truth
from pelagos.evaluation.verification import make_evaluator
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store

LEFT = RegionConfig(name="left", x=(0.0, 0.4))


@pytest.fixture
def plan(store: Store) -> ForecastPlan:
    return StartsConfig(every=1, steps=3).plan(store)


@pytest.fixture
def forecast(store: Store, plan: ForecastPlan, rng: np.random.Generator) -> xr.Dataset:
    truth = read_truth(store, plan, store.variables)
    noisy = truth + 0.3 * rng.normal(size=truth["displacement"].shape).astype(np.float32)
    noisy["displacement"][1, 2, 1, 4, 4] = np.nan
    return noisy.assign_attrs(truth.attrs)


def made(store: Store, plan: ForecastPlan, forecast: xr.Dataset) -> Evaluator:
    sources = {"net": LabelledFrames.of(forecast, store, plan, store.variables)}
    regions = make_regions((LEFT,), store)
    return make_evaluator(store, plan, store.variables, sources, ["persistence"], regions=regions)


def compare(found: ScoreState, expected: ScoreState) -> None:
    for name, array in expected.arrays.items():
        np.testing.assert_allclose(found.arrays[name], array, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(("size", "window"), [(1, 64), (3, 2), (16, 1)])
def test_batches_and_windows_change_nothing(
    store: Store,
    plan: ForecastPlan,
    forecast: xr.Dataset,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    window: int,
) -> None:
    whole = made(store, plan, forecast).score_all(100)
    monkeypatch.setattr(evaluator, "WINDOW", window)
    cut = made(store, plan, forecast).score_all(size)
    for name, state in whole.items():
        compare(cut[name], state)
        np.testing.assert_array_equal(cut[name].done, True)


def test_long_forecasts_have_spectra_and_invariants_at_some_lead_times(
    store: Store, plan: ForecastPlan, forecast: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = made(store, plan, forecast).score_all(100)
    for name in ("THINNED", "SHOWN"):
        monkeypatch.setattr(score_plan, name, 2)
    # The second of three lead times is left out, and a window of its own has nothing of it.
    monkeypatch.setattr(evaluator, "WINDOW", 1)
    thinned = made(store, plan, forecast).score_all(5)
    for method, state in every.items():
        for name, kept in arrays_of(method).items():
            expected = state.arrays[name]
            for dim in {"thinned", "shown"} & set(kept.dims):
                expected = expected.take([0, 2], kept.dims.index(dim))
            np.testing.assert_allclose(
                thinned[method].arrays[name], expected, rtol=1e-12, atol=1e-13, err_msg=name
            )
    kept_truth = labelled(thinned["truth"], store.time_units)
    np.testing.assert_array_equal(kept_truth["thinned"], kept_truth["lead_time"][[0, 2]])


def test_parts_merge_in_any_order_and_only_once(
    store: Store, plan: ForecastPlan, forecast: xr.Dataset
) -> None:
    work = made(store, plan, forecast)
    expected = work.score_all(2)["net"]
    parts = [states["net"] for batch in plan.batches(2) for states in work.score(batch)]
    whole = ScoreState.empty(work.plan, "net", work.plan.whole)
    for part in parts[::-1]:
        whole.merge(part)
    compare(whole, expected)
    with pytest.raises(
        DataError, match="scores of net: samples 0 to 1 at lead times 0 to 2 are counted already"
    ):
        whole.merge(parts[0])


def test_what_is_kept_gives_the_scores_of_labelled_forecasts(
    store: Store, plan: ForecastPlan, forecast: xr.Dataset
) -> None:
    truth = read_truth(store, plan, store.variables)
    kept = labelled(made(store, plan, forecast).score_all(5)["net"], store.time_units)
    pairs = zip(kept["mean"].values.tolist(), kept["std"].values.tolist(), strict=True)
    scales = dict(zip(kept["variable"].values.tolist(), pairs, strict=True))
    expected = scores.accumulate(forecast, truth, scales=scales)
    for metric in (*scores.METRICS.values(), scores.normalised_relative_l1):
        xr.testing.assert_allclose(metric(sums_of(kept)), metric(expected).astype(np.float64), rtol=1e-12)
    left = scores.accumulate(forecast.isel(x=slice(4)), truth.isel(x=slice(4)))
    np.testing.assert_allclose(scores.rmse(sums_of(kept, "left")), scores.rmse(left), rtol=1e-12)
    failed = kept["first_failure"].sel(variable="displacement")
    assert failed[1, 2].item() == pytest.approx(float(truth["lead_time"][1]))
    assert failed.count() == 1


def test_spectra_maps_and_invariants_are_those_of_whole_forecasts(
    store: Store, plan: ForecastPlan, forecast: xr.Dataset
) -> None:
    kept = labelled(made(store, plan, forecast).score_all(5)["net"], store.time_units)
    # Differences of single precision would be rounded.
    truth = read_truth(store, plan, store.variables).astype(np.float64)
    forecast = forecast.astype(np.float64)
    rate = "displacement_rate"
    sound = spectra.error_spectrum(forecast, truth, [rate]).sum(("trajectory", "start"))
    np.testing.assert_allclose(kept["error_spectrum_sum"].sel(variable=rate), sound, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(
        kept["spectra"].sel(variable=rate), spectra.spectrum(forecast, [rate]), rtol=1e-10, atol=1e-15
    )
    # Where one of them is no number, the spectra of the others are still summed.
    count = kept["spectrum_count"].sel(variable="displacement").values
    samples = len(plan.trajectories) * len(plan.starts)
    assert count.tolist() == [samples, samples - 1, samples]
    error = (forecast - truth)[rate]
    maps = kept["maps"].sel(variable=rate)
    np.testing.assert_allclose(
        maps.sel(map="error"), error.sum(("trajectory", "start")), rtol=1e-5, atol=1e-6
    )
    assert (kept["histogram"].sel(variable=rate).sum("bin") == samples * 64).all()


def test_invariants_drift_as_those_of_labelled_forecasts(
    store: Store, plan: ForecastPlan, forecast: xr.Dataset
) -> None:
    names = {"displacement": "density", "displacement_rate": "tracer"}
    renamed = [variable.model_copy(update={"name": names[variable.key]}) for variable in store.variables]
    other = replace(store, variables=tuple(renamed))
    kept = {
        name: labelled(state, store.time_units)
        for name, state in made(other, plan, forecast.rename(names)).score_all(4).items()
    }
    initial = read_initial(other, plan, renamed)
    drift = conservation.drift(forecast.rename(names), initial)
    first, scale = kept["truth"]["initial_quantities"], kept["truth"]["quantity_scales"]
    found = ((kept["net"]["quantities"] - first) / scale.where(scale > 0)).to_dataset("quantity")
    for name in ("mass", "tracer mass"):
        np.testing.assert_allclose(found[name].values, drift[name].values, rtol=1e-10)


def test_moments_are_taken_over_all_frames(store: Store, plan: ForecastPlan) -> None:
    truth = read_truth(store, plan, store.variables).astype(np.float64)
    found = moments_of(StoredFrames(store, plan, store.variables), 2)
    for row, name in zip(found, truth.data_vars, strict=True):
        np.testing.assert_allclose(row, [truth[name].mean(), truth[name].std()], rtol=1e-12)


def test_a_method_is_not_called_like_the_truth(
    store: Store, plan: ForecastPlan, forecast: xr.Dataset
) -> None:
    sources = {"truth": LabelledFrames.of(forecast, store, plan, store.variables)}
    with pytest.raises(DataError, match="cannot be called 'truth'"):
        make_evaluator(store, plan, store.variables, sources)
