import math

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.wave_equation import WaveConfig

NO_SCALARS = torch.empty(1, 0, dtype=torch.float64)


def test_plane_waves_travel_at_the_wave_speed() -> None:
    pde = WaveConfig(length=2.0, wave_speed=1.3).build()
    y = torch.arange(20, dtype=torch.float64)[:, None] / 10
    x = torch.arange(24, dtype=torch.float64)[None, :] / 12
    kx, ky, speed = math.pi * 2, math.pi, torch.full((1, 1, 20, 24), 1.3, dtype=torch.float64)

    def wave(time: float) -> Tensor:
        omega = 1.3 * math.hypot(kx, ky)
        phase = kx * x + ky * y - omega * time
        return torch.stack([torch.cos(phase), omega * torch.sin(phase)])[None]

    end = pde.propagate(wave(0.0), speed, NO_SCALARS, 0.7, dt=0.002)
    torch.testing.assert_close(end, wave(0.7), rtol=0, atol=1e-7)


def test_errors_fall_with_the_fourth_power_of_the_step() -> None:
    pde = WaveConfig().build()
    state = pde.initial(0, [0], (24, 24))

    def at(dt: float) -> Tensor:
        return pde.propagate(state.fields, state.static, state.scalars, 0.2, dt)

    errors = [(at(dt) - at(0.0005)).abs().max().item() for dt in (0.008, 0.004)]
    assert math.log2(errors[0] / errors[1]) > 3.7


@pytest.mark.parametrize("shape", [(32, 32), (27, 40)])
def test_energy_and_momentum_are_conserved_in_any_medium(shape: tuple[int, int]) -> None:
    pde = WaveConfig().build()
    state = pde.initial(1, range(3), shape)
    moving = state.fields + torch.tensor([0.0, 0.5], dtype=torch.float64)[:, None, None]
    end = pde.propagate(moving, state.static, state.scalars, 0.4, dt=0.001)
    before, after = (pde.conserved(f, state.static, state.scalars) for f in (moving, end))
    torch.testing.assert_close(after["energy"], before["energy"], rtol=1e-6, atol=0)
    torch.testing.assert_close(after["momentum"], before["momentum"], rtol=1e-12, atol=0)


def test_waves_run_backwards_when_their_rate_is_reversed() -> None:
    pde = WaveConfig().build()
    state = pde.initial(2, [0], (24, 24))
    back = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
    there = pde.propagate(state.fields, state.static, state.scalars, 0.3, dt=0.001)
    again = pde.propagate(there * back, state.static, state.scalars, 0.3, dt=0.001) * back
    torch.testing.assert_close(again, state.fields, rtol=0, atol=1e-5)


def test_the_default_step_is_stable_for_any_medium_in_the_range() -> None:
    pde = WaveConfig(wave_speed={"low": 0.1, "high": 2.0}).build()
    generator = torch.Generator().manual_seed(0)
    speed = 0.1 + 1.9 * torch.rand(1, 1, 16, 16, dtype=torch.float64, generator=generator)
    noise = torch.randn(1, 2, 16, 16, dtype=torch.float64, generator=generator)
    before, after = (
        pde.conserved(fields, speed, NO_SCALARS)["energy"].item()
        for fields in (noise, pde.propagate(noise, speed, NO_SCALARS, 5.0))
    )
    assert 0 < after <= before


def test_the_medium_stays_within_its_range_and_the_displacement_starts_at_rest() -> None:
    state = WaveConfig(wave_speed={"low": 0.5, "high": 1.5}).build().initial(0, range(8), (32, 32))
    assert state.static.min() > 0.5
    assert state.static.max() < 1.5
    assert (state.static.amax((1, 2, 3)) - state.static.amin((1, 2, 3))).min() > 0.5
    assert state.fields[:, 1].abs().max() == 0
    assert state.fields[:, 0].mean(dim=(-2, -1)).abs().max() < 1e-14
