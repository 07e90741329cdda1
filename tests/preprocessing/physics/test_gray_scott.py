import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.integrate import solve_ivp
from torch import Tensor

from pelagos.preprocessing.physics.gray_scott import REGIMES, GrayScottConfig, Regime
from pelagos.preprocessing.physics.parameter import bounds

SCALARS = torch.tensor([[0.03, 0.06, 2e-5, 4e-5]], dtype=torch.float64)
NO_STATIC = torch.empty(1, 0, 1, 1)


def uniform(activator: float, inhibitor: float, shape: tuple[int, int] = (6, 8)) -> Tensor:
    values = torch.tensor([activator, inhibitor], dtype=torch.float64)
    return values[None, :, None, None].expand(1, 2, *shape).clone()


def test_without_activator_nothing_happens() -> None:
    start = uniform(0.0, 1.0)
    end = GrayScottConfig().build().propagate(start, NO_STATIC, SCALARS, 100.0)
    torch.testing.assert_close(end, start, rtol=0, atol=1e-14)


def test_without_activator_the_inhibitor_diffuses_and_is_fed_exactly() -> None:
    x = torch.arange(12, dtype=torch.float64) / 12
    start = uniform(0.0, 0.4, (12, 12))
    start[0, 1] += 0.3 * torch.cos(2 * math.pi * 3 * x)
    end = GrayScottConfig().build().propagate(start, NO_STATIC, SCALARS, 50.0, dt=50.0)
    wave = 0.3 * math.exp(-50 * (0.03 + 4e-5 * (6 * math.pi) ** 2)) * torch.cos(2 * math.pi * 3 * x)
    expected = 1 - 0.6 * math.exp(-50 * 0.03) + wave.expand(12, 12)
    torch.testing.assert_close(end[0, 1], expected, rtol=0, atol=1e-13)
    assert end[0, 0].abs().max() == 0


def test_uniform_fields_follow_the_reaction_kinetics() -> None:
    def kinetics(_: float, state: NDArray[np.float64]) -> list[float]:
        a, b = state
        return [a * a * b - (0.03 + 0.06) * a, -a * a * b + 0.03 * (1 - b)]

    exact = solve_ivp(kinetics, (0, 60), [0.4, 0.5], rtol=1e-11, atol=1e-13).y[:, -1]
    end = GrayScottConfig().build().propagate(uniform(0.4, 0.5), NO_STATIC, SCALARS, 60.0, dt=0.25)
    np.testing.assert_allclose(end[0, :, 0, 0], exact, rtol=1e-7)
    assert end.std(dim=(-2, -1)).max() < 1e-14


def test_errors_fall_with_the_fourth_power_of_the_step() -> None:
    pde = GrayScottConfig().build()
    state = pde.initial(0, [0], (32, 32))

    def at(dt: float) -> Tensor:
        return pde.propagate(state.fields, state.static, state.scalars, 64.0, dt)

    errors = [(at(dt) - at(0.25)).abs().max().item() for dt in (4.0, 2.0)]
    assert math.log2(errors[0] / errors[1]) > 3.6


def test_rates_lie_in_one_of_the_regimes_asked_for() -> None:
    pde = GrayScottConfig(regimes=("maze", "spots", Regime(feed=0.5, kill=0.25))).build()
    rates = pde.initial(0, range(30), (8, 8)).scalars[:, :2].tolist()
    own = [pair for pair in rates if pair == [0.5, 0.25]]
    near = {
        name: sum(abs(feed / (bounds(REGIMES[name].feed)[0] / 0.99) - 1) < 0.011 for feed, _ in rates)
        for name in ("maze", "spots")
    }
    assert own
    assert min(near.values()) > 0
    assert pde.scalars[:2] == ("feed", "kill")


def test_concentrations_stay_within_bounds_and_patterns_live() -> None:
    pde = GrayScottConfig(regimes=("spirals",)).build()
    state = pde.initial(0, [0, 1], (48, 48), torch.float32)
    end = pde.propagate(state.fields, state.static, state.scalars, 200.0)
    assert end.min() > -0.02
    assert end.max() < 1.02
    assert end[:, 0].std(dim=(-2, -1)).min() > 0.05


def test_an_unknown_regime_is_refused() -> None:
    with pytest.raises(ValidationError, match="gliders"):
        GrayScottConfig(regimes=("bubbels",))
