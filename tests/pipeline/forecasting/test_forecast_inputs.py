"""Networks that see earlier frames, and forcings at the valid time, are given them in rollouts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.models.constraints.clearness import Clearness
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs.model_folder import Model, VariableScale
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys


class Linear(nn.Module):
    """T - 10 f goes on as it did between two frames, f being the forcing; lead times are in frames."""

    def __init__(self, places: list[int], apart: int) -> None:
        super().__init__()
        self.places, self.apart = places, apart
        self.leads: list[float] = []

    def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Any) -> Tensor:
        now, before, forced, forced_before, ahead = (fields_BCHW[:, [place]] for place in self.places)
        self.leads.append(float(lead_B[0]))
        change = (now - 10 * forced - (before - 10 * forced_before)) / self.apart
        return now + lead_B[:, None, None, None] * change + 10 * (ahead - forced)


def with_history(model: Model, store: Store, history: tuple[int, ...]) -> tuple[Model, Linear]:
    domain = model.domain(store.dataset).model_copy(
        update={"history": history, "frame_time": store.dt, "sees_valid_forcing": True, "min_lead": 0.0}
    )
    names = keys(domain.channels)
    age = history[-1]
    wanted = ("temperature", f"temperature[-{age}]", "ice", f"ice[-{age}]", "ice[valid]")
    network = Linear([names.index(name) for name in wanted], age)
    signature = replace(model.signature, inputs=names)
    return replace(model, network=network, signature=signature, domains={store.dataset: domain}), network


def expected_fields(store: Store, start: int, age: int, strides: list[int]) -> np.ndarray:
    """What `Linear` forecasts from the frames of a store, in steps of so many frames."""
    frames, names = store.read(0, 0, store.num_times).astype(np.float64), keys(store.variables)
    forced = 10 * frames[:, names.index("ice")]
    rest, ends = frames[:, names.index("temperature")] - forced, start + np.cumsum(strides)
    for base, stride in zip((start, *ends), strides, strict=False):
        change = (rest[base] - rest[base - age]) / age
        for n in range(1, stride + 1):
            rest[base + n] = rest[base] + n * change
    return np.asarray((rest + forced)[ends])


@pytest.mark.parametrize(
    ("history", "stride", "leads"),
    [
        ((1,), 1, [1, 1, 1]),
        ((2,), 1, [1, 1, 1]),
        ((1,), 2, [1, 2] * 3),
        ((1, 3), 2, [1, 2] * 3),
        ((2,), 2, [2] * 3),
    ],
)
def test_a_rollout_sees_earlier_frames_of_the_store_then_its_own(
    weather: Store, model_of: Any, history: tuple[int, ...], stride: int, leads: list[float]
) -> None:
    model, network = with_history(model_of(weather), weather, history)
    start = 4
    plan = StartsConfig(at=(start,), steps=3, stride=stride).plan(weather)
    made = Forecaster(model, weather).forecast(plan)["temperature"].values[0, 0]
    expected = expected_fields(weather, start, history[-1], [stride] * 3)
    assert made == pytest.approx(expected, abs=1e-3)
    assert network.leads == leads


def test_starts_that_lack_earlier_frames_are_refused(weather: Store, model_of: Any) -> None:
    model, _ = with_history(model_of(weather), weather, (1, 3))
    plan = StartsConfig(at=(2,), steps=1).plan(weather)
    with pytest.raises(DataError, match=r"frames from 3 before the start.*is 3, not 2"):
        Forecaster(model, weather).forecast(plan)


def test_direct_forecasts_see_the_forcing_of_each_valid_time(weather: Store, model_of: Any) -> None:
    model, _ = with_history(model_of(weather), weather, (1,))
    plan = StartsConfig(at=(2,), steps=2).plan(weather)
    made = Forecaster(model, weather, "direct").forecast(plan)["temperature"].values[0, 0]
    assert made == pytest.approx(expected_fields(weather, 2, 1, [1, 1]), abs=1e-3)


@pytest.fixture(scope="module")
def sunny(tmp_path_factory: pytest.TempPathFactory, make_weather: Any, build_weather: Any) -> Store:
    """Fields in one unit, as radiation and the sun's are."""
    ds = make_weather()
    ds["ice"].attrs["units"] = ds["temperature"].attrs["units"] = "W m-2"
    store: Store = build_weather(tmp_path_factory.mktemp("sunny"), "sunny", ds, forcings=["sin_year"])
    return store


@pytest.mark.parametrize(
    ("history", "stride", "mode"), [((1,), 1, "rollout"), ((1,), 2, "rollout"), ((1,), 1, "direct")]
)
def test_radiation_follows_the_sun_at_each_valid_time(
    sunny: Store, model_of: Any, history: tuple[int, ...], stride: int, mode: Any
) -> None:
    class Persisting(nn.Module):
        def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Any) -> Tensor:
            return fields_BCHW[:, :1]

    model, _ = with_history(model_of(sunny), sunny, (1,))
    domain = model.domain(sunny.dataset)
    scales = {**domain.scales, "ice": VariableScale(mean=1.4, std=1.0)}
    rule = Clearness(variables=("temperature",), insolation="ice", low=0.1)
    domains = {sunny.dataset: domain.model_copy(update={"scales": scales})}
    model = replace(model, network=Persisting(), domains=domains, constraints=(rule,))
    plan = StartsConfig(at=(4,), steps=3, stride=stride).plan(sunny)
    made = Forecaster(model, sunny, mode).forecast(plan)["temperature"].values[0, 0]
    frames, names = sunny.read(0, 0, sunny.num_times).astype(np.float64), keys(sunny.variables)
    heat, sun = (frames[:, names.index(name)] for name in ("temperature", "ice"))
    assert made == pytest.approx(heat[4] / sun[4] * sun[4 + stride : 5 + 3 * stride : stride], rel=1e-5)
