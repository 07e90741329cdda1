"""Any strategy reaches the same frames with a network that is exact at all lead times, in the calls it promises."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import xarray as xr
from pydantic import ValidationError
from torch import Tensor, nn

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.strategy import Composite, Mode
from pelagos.pipeline.runs.model_folder import Model
from pelagos.preprocessing.store.store import Store


class Decay(nn.Module):
    """exp(-t / 10) of the field: two steps are one of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.leads: list[float] = []

    def forward(self, fields_BCHW: Tensor, lead_B: Tensor, told: Any) -> Tensor:
        self.leads.append(round(float(lead_B[0])))
        return fields_BCHW[:, :1] * torch.exp(-lead_B / 10)[:, None, None, None]


def made(weather: Store, model: Model, mode: Mode, steps: int) -> xr.Dataset:
    plan = replace(StartsConfig(at=("last",)).plan(weather, verified=False), steps=steps)
    return Forecaster(model, weather, mode, supply=ForcingSupply(weather, hold=("ice",))).forecast(plan)


@pytest.mark.parametrize("mode", ["direct", Composite(lengths=(1,)), Composite(lengths=(6, 4, 1))])
def test_strategies_agree_where_the_network_is_exact(
    mode: Mode, weather: Store, model_of: Callable[..., Model]
) -> None:
    expected = made(weather, model_of(weather, Decay()), "rollout", 13)
    found = made(weather, model_of(weather, Decay()), mode, 13)
    xr.testing.assert_allclose(found, expected, rtol=1e-5)


def test_each_lead_time_takes_one_call_over_the_shortest_part_of_its_path(
    weather: Store, model_of: Callable[..., Model]
) -> None:
    network = Decay()
    made(weather, model_of(weather, network), Composite(lengths=(1, 4)), 10)
    assert network.leads == [1, 1, 1, 4, 1, 1, 1, 4, 1, 1]


@pytest.mark.parametrize("lengths", [(8, 4, 1), (5, 3, 1), (7, 1)])
def test_a_path_begins_with_the_longest_steps(lengths: tuple[int, ...]) -> None:
    mode = Composite(lengths=lengths)
    for step in range(1, 40):
        path = (0, *mode.path(step))
        calls = [later - earlier for earlier, later in pairwise(path)]
        assert path[-1] == step
        assert calls == sorted(calls, reverse=True)
        # What a step begins from was passed by the step before, which is why so little is kept.
        assert set(path[:-1]) <= {0, *mode.path(step - 1)}


def test_lengths_without_one_step_are_refused() -> None:
    with pytest.raises(ValidationError, match="1 one of them"):
        Composite(lengths=(4, 2))
