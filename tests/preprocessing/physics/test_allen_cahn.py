import math

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.allen_cahn import AllenCahn, AllenCahnConfig
from pelagos.preprocessing.physics.spectral import Modes

SCALARS = torch.tensor([[0.01, 8.0]], dtype=torch.float64)
NO_STATIC = torch.empty(1, 0, 1, 1)


@pytest.fixture
def pde() -> AllenCahn:
    return AllenCahnConfig().build()


@pytest.mark.parametrize("start", [0.05, -0.4, 1.3])
def test_uniform_fields_follow_the_exact_reaction(pde: AllenCahn, start: float) -> None:
    end = pde.propagate(torch.full((1, 1, 6, 7), start).double(), NO_STATIC, SCALARS, 0.5, dt=0.002)
    growth = math.exp(8 * 0.5)
    exact = start * growth / math.sqrt(1 + start**2 * (growth**2 - 1))
    torch.testing.assert_close(end, torch.full_like(end, exact), rtol=1e-7, atol=0)


@pytest.mark.parametrize("phase", [-1.0, 0.0, 1.0])
def test_equilibria_stay(pde: AllenCahn, phase: float) -> None:
    start = torch.full((1, 1, 6, 6), phase, dtype=torch.float64)
    torch.testing.assert_close(pde.propagate(start, NO_STATIC, SCALARS, 1.0), start, rtol=0, atol=1e-12)


def test_tiny_waves_grow_at_the_linear_rate(pde: AllenCahn) -> None:
    x = torch.arange(16, dtype=torch.float64) / 16
    start = 1e-7 * torch.cos(2 * math.pi * 2 * x).expand(1, 1, 16, 16)
    rate = 8 - 0.01 * (4 * math.pi) ** 2
    end = pde.propagate(start, NO_STATIC, SCALARS, 0.3)
    torch.testing.assert_close(end, start * math.exp(0.3 * rate), rtol=1e-12, atol=1e-19)


def test_a_straight_interface_has_the_profile_of_the_theory() -> None:
    # tanh(x / sqrt(2 D / r)) between the pure phases is steady.
    pde = AllenCahnConfig(length=4.0).build()
    x = (torch.arange(384, dtype=torch.float64) + 0.5) / 96
    width = math.sqrt(2 * 0.01 / 8)
    profile = torch.where(x < 2, torch.tanh((x - 1) / width), torch.tanh((3 - x) / width))
    start = profile.expand(1, 1, 4, 384)
    end = pde.propagate(start, NO_STATIC, SCALARS, 1.0)
    torch.testing.assert_close(end, start, rtol=0, atol=1e-6)


def test_the_free_energy_falls(pde: AllenCahn) -> None:
    state = pde.initial(0, range(3), (32, 32))

    def energy(phase: Tensor) -> Tensor:
        modes = Modes.of(phase, pde.length)
        bending = -phase * modes.backward(-modes.square * modes.forward(phase))
        diffusivity, rate = state.scalars[:, :, None, None, None].unbind(1)
        return (diffusivity * bending / 2 + rate * (1 - phase**2) ** 2 / 4).mean(dim=(1, 2, 3))

    phase, energies = state.fields, []
    for _ in range(4):
        energies.append(energy(phase))
        phase = pde.propagate(phase, state.static, state.scalars, 0.05)
    assert (torch.stack(energies).diff(dim=0) < 0).all()


def test_exchanging_the_phases_and_advancing_commute(pde: AllenCahn) -> None:
    state = pde.initial(1, [0], (16, 16))
    exchanged = pde.propagate(-state.fields, state.static, state.scalars, 0.1)
    torch.testing.assert_close(exchanged, -pde.propagate(state.fields, state.static, state.scalars, 0.1))


def test_errors_fall_with_the_fourth_power_of_the_step(pde: AllenCahn) -> None:
    state = pde.initial(2, [0], (24, 24))

    def at(dt: float) -> Tensor:
        return pde.propagate(state.fields, state.static, state.scalars, 0.4, dt)

    errors = [(at(dt) - at(0.002)).abs().max().item() for dt in (0.02, 0.01)]
    assert math.log2(errors[0] / errors[1]) > 3.7
