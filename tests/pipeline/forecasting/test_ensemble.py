"""Members differ as they are asked to, the same in any batch, and the control not at all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import ValidationError
from torch import Tensor, nn

from pelagos.evaluation.forecast_plan import ForecastPlan, ForecastStart, StartsConfig
from pelagos.models.context import Context
from pelagos.models.layers.conditioning import noise_names, signed_log
from pelagos.pipeline.forecasting.ensemble import (
    BredStarts,
    EnsembleConfig,
    NoisyStarts,
    OtherStarts,
    draws,
)
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecast_data import with_members
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs.model_folder import Model
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.store.store import Store

ModelOf = Callable[..., Model]
NOISE = EnsembleConfig(members=4, starts=NoisyStarts(scale=0.5))


class Persist(nn.Module):
    def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Any) -> Tensor:
        return fields_BCHW[:, :1]


class Growing(nn.Module):
    """Doubles what varies along the columns with one wave, halves the rest."""

    def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Any) -> Tensor:
        spectrum = torch.fft.rfft(fields_BCHW[:, :1])
        factors = torch.tensor([0.5, 2.0, 0.5, 0.5])
        grown: Tensor = torch.fft.irfft(spectrum * factors, n=fields_BCHW.shape[-1])
        return grown


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm2d(1)

    def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Any) -> Tensor:
        dropped: Tensor = self.dropout(self.norm(fields_BCHW[:, :1]))
        return dropped


class Drawing(nn.Module):
    """The input and what conditions the call, which is noise alone."""

    def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Context) -> Tensor:
        assert told.scalars is not None
        noise_BZ = signed_log(told.scalars)
        return fields_BCHW[:, :1] + noise_BZ.mean(1)[:, None, None, None]


def drawing(model: Model) -> Model:
    """A model whose network draws four numbers."""
    return replace(model, signature=replace(model.signature, scalars=noise_names(4)))


def forecast(
    store: Store, model: Model, ensemble: EnsembleConfig, at: tuple[int, ...] = (5, 6), batch: int = 16
) -> xr.DataArray:
    plan = StartsConfig(at=at, steps=3).plan(store, verified=False)
    plan = with_members(plan, store, ensemble, 1)
    supply = ForcingSupply(store, hold=("ice",))
    forecaster = Forecaster(model, store, batch=batch, supply=supply, ensemble=ensemble)
    return forecaster.forecast(plan)["temperature"]


@pytest.mark.parametrize(
    "ensemble",
    [
        NOISE,
        NOISE.model_copy(update={"starts": BredStarts(scale=0.5, cycles=2)}),
        EnsembleConfig(members=4, noise=0.5),
        EnsembleConfig(members=4, dropout=True),
        EnsembleConfig(members=4, sampled=True),
    ],
)
def test_what_is_drawn_does_not_depend_on_the_batch(
    ensemble: EnsembleConfig, weather: Store, model_of: ModelOf
) -> None:
    model = model_of(weather, Dropping().eval() if ensemble.dropout else Growing())
    model = drawing(model_of(weather, Drawing())) if ensemble.sampled else model
    whole = forecast(weather, model, ensemble)
    assert whole.dims == ("trajectory", "start", "member", "lead_time", "y", "x")
    for batch in (1, 3):
        np.testing.assert_allclose(forecast(weather, model, ensemble, batch=batch), whole, rtol=1e-5)
    np.testing.assert_allclose(forecast(weather, model, ensemble, at=(6,)), whole.isel(start=[1]), rtol=1e-5)
    members = whole.isel(start=0, trajectory=0)
    assert all(float(abs(members[0] - members[one]).max()) > 0 for one in (1, 2, 3))
    other = forecast(weather, model, ensemble.model_copy(update={"seed": 1}))
    assert not np.allclose(other.isel(member=1), whole.isel(member=1))
    np.testing.assert_allclose(other.isel(member=0), whole.isel(member=0), rtol=1e-6)


def test_the_control_is_the_forecast_without_an_ensemble(weather: Store, model_of: ModelOf) -> None:
    model, plan = model_of(weather, Growing()), StartsConfig(at=(5, 6), steps=3).plan(weather)
    alone = Forecaster(model, weather).forecast(plan)["temperature"]
    np.testing.assert_array_equal(forecast(weather, model, NOISE).isel(member=0), alone)


def test_noise_has_the_size_that_is_asked_for(weather: Store, model_of: ModelOf) -> None:
    ensemble = EnsembleConfig(members=200, control=False, starts=NoisyStarts(scale=0.5))
    made = forecast(weather, model_of(weather, Persist()), ensemble, at=(5,))
    spread = made.isel(lead_time=0).std("member")
    assert float(spread.mean()) == pytest.approx(0.5, rel=0.02)


def test_a_network_draws_anew_at_each_step_and_not_for_the_control(weather: Store, model_of: ModelOf) -> None:
    model = drawing(model_of(weather, Drawing()))
    made = forecast(weather, model, EnsembleConfig(members=400, sampled=True), at=(5,))
    spread = made.isel(member=slice(1, None)).std("member").mean(["y", "x"]).values.reshape(-1)
    # The mean of four normal numbers, and the sum of one such mean a step.
    assert spread == pytest.approx(0.5 * np.sqrt([1, 2, 3]), rel=0.1)
    plan = StartsConfig(at=(5,), steps=3).plan(weather, verified=False)
    alone = Forecaster(model, weather, supply=ForcingSupply(weather, hold=("ice",))).forecast(plan)[
        "temperature"
    ]
    np.testing.assert_array_equal(made.isel(member=0), alone)
    np.testing.assert_allclose(alone.isel(lead_time=2), alone.isel(lead_time=0))


def test_noise_at_every_step_adds_up(weather: Store, model_of: ModelOf) -> None:
    made = forecast(
        weather, model_of(weather, Persist()), EnsembleConfig(members=200, control=False, noise=0.5), at=(5,)
    )
    spread = (made.var("member").mean(["y", "x"]) ** 0.5).values.reshape(-1)
    assert spread == pytest.approx(0.5 * np.sqrt([1, 2, 3]), rel=0.05)


@pytest.mark.parametrize("in_place", [True, False])
def test_bred_vectors_are_what_grows_fastest(in_place: bool, weather: Store, model_of: ModelOf) -> None:
    starts = BredStarts(scale=0.5, cycles=6, in_place=in_place)
    ensemble = EnsembleConfig(members=3, starts=starts)
    made = forecast(weather, model_of(weather, Growing()), ensemble, at=(7,))
    difference = (made.isel(member=1) - made.isel(member=0)).isel(lead_time=0, trajectory=0, start=0)
    power = np.abs(np.fft.rfft(difference.values)) ** 2
    assert power[:, 1].sum() > 0.999 * power.sum()
    # It has doubled once more in the first step.
    assert float((difference**2).mean() ** 0.5) == pytest.approx(1.0, rel=0.01)


def test_breeding_needs_frames_before_the_start(weather: Store, model_of: ModelOf) -> None:
    ensemble = EnsembleConfig(members=2, starts=BredStarts(cycles=6))
    with pytest.raises(DataError, match=r"6 cycles of breeding go before, unless .*in_place.* is 6, not 5"):
        forecast(weather, model_of(weather, Growing()), ensemble, at=(5,))


def test_dropout_leaves_other_modules_in_eval_mode(weather: Store, model_of: ModelOf) -> None:
    model = model_of(weather, Dropping().eval())
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    forecast(weather, model, EnsembleConfig(members=2, dropout=True))
    assert all(torch.equal(before[key], value) for key, value in model.network.state_dict().items())
    assert not any(module.training for module in model.network.modules())


@pytest.mark.parametrize(
    ("ensemble", "message"),
    [
        (EnsembleConfig(members=3), "would be the same"),
        (EnsembleConfig(members=3, dropout=True), "the network has no dropout"),
        (EnsembleConfig(members=3, sampled=True), "trained without noise"),
    ],
)
def test_members_that_would_not_differ_are_refused(
    ensemble: EnsembleConfig, message: str, weather: Store, model_of: ModelOf
) -> None:
    with pytest.raises(ConfigError, match=message):
        forecast(weather, model_of(weather, Persist()), ensemble)


def test_given_starts_are_trajectories_of_the_store() -> None:
    one = ForecastStart(2, 7, 1)
    assert EnsembleConfig(starts=OtherStarts()).source(one, 3) == ForecastStart(7, 7, 1)
    assert EnsembleConfig(starts=OtherStarts(trajectories=(4, 9))).source(one, 2) == ForecastStart(9, 7, 1)
    with pytest.raises(ValidationError, match=r"members is 3, but starts\.trajectories names 2"):
        EnsembleConfig(members=3, starts=OtherStarts(trajectories=(4, 9)))


def test_draws_differ_between_members_starts_trajectories_steps_and_purposes() -> None:
    places = [ForecastStart(*place) for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    found = {float(draws(0, one, "start").standard_normal()) for one in places}
    found |= {float(draws(0, places[0], "step", step).standard_normal()) for step in range(3)}
    found |= {float(draws(1, places[0], "network").standard_normal())}
    assert len(found) == 8
    again = replace(ForecastPlan((0,), (0,), 1, 1), members=(0,)).batches(1)[0].samples[0]
    assert float(draws(0, again, "start").standard_normal()) in found
