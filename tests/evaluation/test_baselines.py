from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation import scores
from pelagos.evaluation.baselines import Climatology, LinearStencil, persistence
from pelagos.evaluation.forecast_schema import check_pair
from pelagos.preprocessing.errors import DataError

Make = Callable[..., xr.Dataset]
Array = NDArray[np.float64]
Padding = Literal["wrap", "symmetric", "edge"]


TRAINING = ("trajectory", "time", "y", "x")
FRAME = ("trajectory", "y", "x")


def test_persistence_repeats_the_initial_frame(make: Make, rng: np.random.Generator) -> None:
    initial = make({"u": rng.normal(size=(3, 5, 4))}, dims=FRAME)
    found = persistence(initial, [0.5, 2.0])
    assert found["u"].dims == ("trajectory", "lead_time", "y", "x")
    assert found.attrs == initial.attrs
    units = {"units": "s"}
    assert (
        persistence(initial, xr.DataArray([1.0], dims="lead_time", attrs=units))["lead_time"].attrs == units
    )
    for step in range(2):
        np.testing.assert_array_equal(found["u"].values[:, step], initial["u"].values)


def test_persistence_of_a_ramp_has_the_slope_as_error(make: Make, rng: np.random.Generator) -> None:
    steady = rng.normal(size=(2, 1, 4, 4))
    truth = make({"u": steady + np.arange(1, 4)[:, None, None] * 0.1})
    initial = make({"u": steady[:, 0]}, dims=FRAME)
    found = scores.rmse(scores.accumulate(persistence(initial, truth["lead_time"].values), truth))
    np.testing.assert_allclose(found.values[..., 0], [[0.1, 0.2, 0.3]] * 2)


def hourly(rng: np.random.Generator, days: int = 3) -> xr.Dataset:
    """A field that is its hour of the day, hourly, with the place added."""
    time = np.datetime64("2019-03-01T00", "ns") + np.arange(24 * days) * np.timedelta64(1, "h")
    place = rng.normal(size=(1, 1, 3, 4))
    values = np.tile(np.arange(24.0), days)[None, :, None, None] + place
    coords = {"trajectory": [0], "time": time, "y": [10.0, 20, 30], "x": [0.0, 90, 180, 270]}
    return xr.Dataset({"t": (TRAINING, values)}, coords, {"grid": "latlon"})


def starts(training: xr.Dataset, hours: Sequence[int], leads: Sequence[int]) -> xr.Dataset:
    """The truth of forecasts that start at some hours of the training."""
    data = training["t"].values[0]
    values = np.stack([np.stack([data[(h + lead) % 24] for lead in leads]) for h in hours])
    coords = {
        "start": np.arange(len(hours)),
        "lead_time": np.array(leads) * 3600.0,
        "y": training["y"],
        "x": training["x"],
        "initial_time": ("start", training["time"].values[hours]),
    }
    return xr.Dataset({"t": (("start", "lead_time", "y", "x"), values)}, coords, training.attrs)


def test_the_hour_of_day_climatology_forecasts_a_daily_cycle_exactly(rng: np.random.Generator) -> None:
    training = hourly(rng)
    truth = starts(training, hours=[0, 5, 23], leads=[1, 6, 30])
    forecast = Climatology.fit(training).forecast(truth)
    check_pair(forecast, truth)
    np.testing.assert_allclose(forecast["t"], truth["t"], rtol=1e-12)
    assert forecast["t"].dims == truth["t"].dims


def test_a_climatology_averages_what_is_there(rng: np.random.Generator) -> None:
    training = hourly(rng)
    training["t"][0, 5] += 6  # one of three days
    training["t"][0, 7, 1] = np.nan
    mean = Climatology.fit(training).mean["t"]
    place = training["t"].values[0, 0]
    np.testing.assert_allclose(mean.values[5], place + 5 + 2)
    np.testing.assert_allclose(mean.values[7], place + 7)


def test_coarser_phases_average_neighbouring_hours(rng: np.random.Generator) -> None:
    training = hourly(rng)
    mean = Climatology.fit(training, step=6 * 3600.0).mean["t"]
    assert mean.sizes["phase"] == 4
    np.testing.assert_allclose(mean.values[1], training["t"].values[0, 0] + 8.5)


def test_without_a_cycle_it_is_the_mean_over_all_frames(make: Make, rng: np.random.Generator) -> None:
    training = make({"u": rng.normal(size=(2, 6, 4, 4))}, dims=TRAINING)
    truth = make({"u": rng.normal(size=(3, 2, 4, 4))})
    forecast = Climatology.fit(training, period=np.inf).forecast(truth)
    assert forecast["u"].dims == truth["u"].dims
    expected = np.broadcast_to(training["u"].mean(("trajectory", "time")), truth["u"].shape)
    np.testing.assert_allclose(forecast["u"], expected)


def test_a_phase_without_training_frames_is_missing(rng: np.random.Generator) -> None:
    training = hourly(rng).isel(time=slice(0, 20))
    mean = Climatology.fit(training).mean["t"]
    assert mean.isel(phase=slice(20, 24)).isnull().all()
    assert mean.isel(phase=slice(0, 20)).notnull().all()


def test_a_climatology_by_hour_needs_the_initial_time(rng: np.random.Generator) -> None:
    training = hourly(rng)
    truth = starts(training, [0], [1]).drop_vars("initial_time")
    with pytest.raises(DataError, match="initial_time"):
        Climatology.fit(training).forecast(truth)


SHIFT: dict[str, Padding] = {"periodic,periodic": "wrap", "wall,wall": "symmetric", "open,open": "edge"}


def heat_step(field: Array, mode: Padding) -> Array:
    """One explicit step of the heat equation, on the last two axes."""
    width = [(0, 0)] * (field.ndim - 2) + [(1, 1)] * 2
    padded = np.pad(field, width, mode=mode)
    around = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return field + 0.2 * (around - 4 * field)


def heat(
    make: Make, rng: np.random.Generator, boundary: str, frames: int = 4, trajectories: int = 2
) -> xr.Dataset:
    states = [rng.normal(5, 2, (trajectories, 2, 6, 7))]
    for _ in range(frames):
        u, v = np.moveaxis(heat_step(states[-1], SHIFT[boundary]), 1, 0)
        states.append(np.stack([u - 0.1 * v + 1, v + 0.05 * u], axis=1))
    u, v = np.moveaxis(np.stack(states, axis=1), 2, 0)
    data = make({"u": u, "v": v}, dims=TRAINING, boundary=boundary)
    return data.assign_coords(time=np.arange(frames + 1) * 0.1)


@pytest.mark.parametrize("boundary", list(SHIFT))
def test_a_stencil_recovers_a_linear_equation_with_its_boundary(
    make: Make, rng: np.random.Generator, boundary: str
) -> None:
    stencil = LinearStencil.fit(heat(make, rng, boundary))
    test = heat(make, rng, boundary, trajectories=3)
    lead_time = [0.1, 0.3, 0.4]
    found = stencil.forecast(test.isel(time=0, drop=True), lead_time)
    for name in ("u", "v"):
        np.testing.assert_allclose(found[name], test[name].values[:, [1, 3, 4]], rtol=1e-10)
    assert found["u"].dims == ("trajectory", "lead_time", "y", "x")
    assert found["lead_time"].values.tolist() == lead_time


@pytest.mark.parametrize("boundary", list(SHIFT))
def test_a_wider_stencil_reaches_over_the_boundary(
    make: Make, rng: np.random.Generator, boundary: str
) -> None:
    states = [rng.normal(size=(3, 6, 7))]
    for _ in range(3):
        padded = np.pad(states[-1], [(0, 0), (2, 2), (2, 2)], mode=SHIFT[boundary])
        states.append(0.5 * padded[:, 2:-2, 4:] - 0.3 * padded[:, :-4, 2:-2])
    data = make({"u": np.stack(states, axis=1)}, dims=TRAINING, boundary=boundary)
    found = LinearStencil.fit(data, radius=2).forecast(data.isel(time=0, drop=True), [3.0])
    np.testing.assert_allclose(found["u"].values[:, 0], states[3], atol=1e-10)


def test_the_fit_does_not_depend_on_the_order_of_trajectories(make: Make, rng: np.random.Generator) -> None:
    training = heat(make, rng, "periodic,periodic")
    training["u"] += rng.normal(size=training["u"].shape)
    whole = LinearStencil.fit(training).coefficients
    blocks = [training.isel(trajectory=[0]), training.isel(trajectory=[1])]
    swapped = LinearStencil.fit(xr.concat(blocks[::-1], dim="trajectory")).coefficients
    np.testing.assert_allclose(swapped, whole, atol=1e-10)


def test_missing_points_stay_missing_and_do_not_spoil_the_others(
    make: Make, rng: np.random.Generator
) -> None:
    training = heat(make, rng, "periodic,periodic", trajectories=6)
    training["u"][:, :, 0, :] = np.nan
    stencil = LinearStencil.fit(training)
    found = stencil.forecast(training.isel(time=0, drop=True), [0.1])
    assert found["u"].isel(y=0).isnull().all()
    assert found["u"].isel(y=slice(1, None)).notnull().all()
    inner = found["u"].values[:, 0, 2:-1] - training["u"].values[:, 1, 2:-1]
    assert np.sqrt(np.mean(inner**2)) < 0.2 * training["u"].std()


def test_lead_times_between_frames_are_refused(make: Make, rng: np.random.Generator) -> None:
    data = heat(make, rng, "periodic,periodic")
    with pytest.raises(DataError, match=r"multiples of the stencil.s step 0\.1"):
        LinearStencil.fit(data).forecast(data.isel(time=0, drop=True), [0.15])


def test_unequal_frame_distances_are_refused(make: Make, rng: np.random.Generator) -> None:
    data = heat(make, rng, "periodic,periodic").isel(time=[0, 1, 3])
    with pytest.raises(DataError, match="equal distances in time"):
        LinearStencil.fit(data)


def diffusion_reaction(shared: Path) -> xr.Dataset:
    """Activator and inhibitor of the first trajectories of a PDEBench file, without its rough first frame."""
    with h5py.File(shared / "data/pde/pdebench_2D_diff-react_48x48_T26_N12.h5") as file:
        frames = np.stack([file[f"{i:04d}"]["data"][1:] for i in range(12)])
    axis = (np.arange(48) + 0.5) / 24 - 1
    coords = {"trajectory": np.arange(12), "time": np.arange(1, 26) * 0.2, "y": axis, "x": axis}
    attrs = {"boundary_y": "wall,wall", "boundary_x": "wall,wall"}
    fields = {name: (TRAINING, frames[..., c], {"group": "state"}) for c, name in enumerate("uv")}
    return xr.Dataset(fields, coords, attrs)


def test_on_real_diffusion_reaction_the_stencil_is_thrice_as_good_as_persistence(shared: Path) -> None:
    data = diffusion_reaction(shared)
    stencil = LinearStencil.fit(data.isel(trajectory=slice(10)))
    test = data.isel(trajectory=slice(10, 12)).rename(time="start")
    initial = test.isel(start=slice(1, -1))
    truth = test.isel(start=slice(2, None)).assign_coords(start=initial["start"])
    truth = truth.expand_dims(lead_time=[0.2]).transpose("trajectory", "start", ...)

    def error(forecast: xr.Dataset) -> float:
        pooled = scores.accumulate(forecast, truth).pooled("trajectory", "start")
        return float(scores.relative_l2(pooled).item())

    assert error(persistence(initial, [0.2])) == pytest.approx(0.0916, abs=1e-4)
    assert error(stencil.forecast(initial, [0.2])) == pytest.approx(0.0261, abs=1e-4)
