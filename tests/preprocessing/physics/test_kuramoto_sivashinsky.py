import math

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.kuramoto_sivashinsky import KuramotoSivashinskyConfig

NOTHING = (torch.empty(1, 0, 1, 1), torch.empty(1, 0))


@pytest.mark.parametrize("waves", [2, 5, 9])
def test_small_waves_grow_or_decay_at_their_linear_rate(waves: int) -> None:
    pde = KuramotoSivashinskyConfig().build()
    x = torch.arange(48, dtype=torch.float64) / 48
    start = 1e-7 * torch.cos(2 * math.pi * waves * x).expand(1, 1, 2, 48)
    k = 2 * math.pi * waves / 60
    end = pde.propagate(start, *NOTHING, 2.0)
    torch.testing.assert_close(end, start * math.exp(2 * (k**2 - k**4)), rtol=1e-5, atol=1e-13)


def test_the_slope_obeys_the_equation_of_one_dimension() -> None:
    pde = KuramotoSivashinskyConfig(length=30.0).build()
    state = pde.initial(0, [0], (1, 64))
    k = 2 * math.pi / 30 * torch.fft.rfftfreq(64, 1 / 64, dtype=torch.float64)

    def derivative(field: Tensor, order: int = 1) -> Tensor:
        found: Tensor = torch.fft.irfft(torch.fft.rfft(field) * (1j * k) ** order, n=64)
        return found

    h = 1e-3
    before, middle, after = (
        derivative(pde.propagate(state.fields, *NOTHING, time, dt=h)) for time in (0.5 - h, 0.5, 0.5 + h)
    )
    rate = (after - before) / (2 * h)
    expected = -middle * derivative(middle) - derivative(middle, 2) - derivative(middle, 4)
    assert (rate - expected).norm() < 1e-4 * rate.norm()


def test_errors_fall_with_the_fourth_power_of_the_step() -> None:
    pde = KuramotoSivashinskyConfig(length=30.0).build()
    start = pde.propagate(pde.initial(1, [0], (32, 32)).fields, *NOTHING, 10.0)

    def at(dt: float) -> Tensor:
        return pde.propagate(start, *NOTHING, 2.0, dt)

    errors = [(at(dt) - at(0.005)).abs().max().item() for dt in (0.05, 0.025)]
    assert math.log2(errors[0] / errors[1]) > 3.6
