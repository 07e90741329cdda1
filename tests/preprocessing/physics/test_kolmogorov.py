import math

import numpy as np
import pytest
import torch

from pelagos.preprocessing.physics.kolmogorov import KolmogorovConfig
from pelagos.preprocessing.physics.navier_stokes import NavierStokesConfig
from pelagos.preprocessing.physics.spectral import Modes

SCALARS = torch.tensor([[2e-3, 0.1]], dtype=torch.float64)


def test_from_rest_the_force_drives_the_laminar_flow_exactly() -> None:
    pde = KolmogorovConfig(length=2.0).build()
    y = torch.arange(16, dtype=torch.float64)[:, None] / 8
    force = torch.stack([3 * torch.sin(math.pi * 2 * y).expand(16, 16), torch.zeros(16, 16)])[None].double()
    rate = 2e-3 * (math.pi * 2) ** 2 + 0.1
    flow = pde.propagate(torch.zeros_like(force), force, SCALARS, 1.5, dt=2.0)
    torch.testing.assert_close(flow, force * (1 - math.exp(-1.5 * rate)) / rate, rtol=0, atol=1e-13)


def test_a_mean_force_accelerates_the_mean_flow_against_drag() -> None:
    pde = KolmogorovConfig().build()
    force = torch.tensor([0.5, -0.2], dtype=torch.float64)[None, :, None, None].expand(1, 2, 8, 8)
    flow = pde.propagate(torch.zeros(1, 2, 8, 8, dtype=torch.float64), force, SCALARS, 2.0)
    torch.testing.assert_close(flow, force * (1 - math.exp(-0.2)) / 0.1, rtol=0, atol=1e-13)


def test_a_gradient_force_does_nothing() -> None:
    pde = KolmogorovConfig().build()
    state = pde.initial(0, [0], (16, 16))
    x = torch.arange(16, dtype=torch.float64)[None, :] / 16
    gradient = torch.stack([torch.sin(2 * math.pi * x).expand(16, 16), torch.zeros(16, 16).double()])[None]
    pushed = pde.propagate(state.fields, gradient, state.scalars, 0.1)
    free = pde.propagate(state.fields, torch.zeros_like(gradient), state.scalars, 0.1)
    torch.testing.assert_close(pushed, free, rtol=0, atol=1e-14)


def test_without_force_the_flow_is_that_of_navier_stokes() -> None:
    forced, free = KolmogorovConfig(tracer=True).build(), NavierStokesConfig(tracer=True).build()
    state = free.initial(3, [0, 1], (20, 20))
    nothing = torch.zeros(2, 2, 20, 20, dtype=torch.float64)
    one = forced.propagate(state.fields, nothing, state.scalars, 0.1, dt=0.01)
    other = free.propagate(state.fields, state.static, state.scalars, 0.1, dt=0.01)
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_forces_vary_in_strength_wave_number_and_direction_within_what_is_asked() -> None:
    config = KolmogorovConfig(amplitude={"low": 0.5, "high": 1.0}, wave_numbers=(2, 3))
    force = config.build().initial(0, range(24), (16, 16)).static
    amplitude = (2 * force.square().mean(dim=(-2, -1))).sqrt()
    strength, along_y = amplitude.max(dim=1)
    assert strength.min() >= 0.5
    assert strength.max() <= 1.0
    assert 4 < int(along_y.sum()) < 20
    spectrum = torch.fft.fft2(force).abs()
    numbers = set()
    for i, direction in enumerate(along_y.tolist()):
        line = spectrum[i, direction, 0, :9] if direction else spectrum[i, direction, :9, 0]
        numbers.add(int(line.argmax()))
        assert line.max() > 0.49 * spectrum[i].sum()
    assert numbers == {2, 3}


def test_the_static_fields_are_named_as_a_force() -> None:
    pde = KolmogorovConfig().build()
    assert [(v.key, v.role, v.group) for v in pde.static_variables] == [
        ("force_x", "static", "force"),
        ("force_y", "static", "force"),
    ]


@pytest.mark.parametrize("direction", ["x", "y"])
def test_a_single_direction_can_be_asked_for(direction: str) -> None:
    force = KolmogorovConfig(directions=(direction,)).build().initial(0, range(5), (8, 8)).static
    idle = force[:, "xy".index(direction) - 1]
    assert idle.abs().max() == 0


def test_a_force_may_be_the_sum_of_several_waves_the_first_as_if_alone() -> None:
    one, three = (KolmogorovConfig(waves=number).build() for number in (1, 3))
    forces = [pde.draw_force(np.random.default_rng(4), (32, 32)) for pde in (one, three)]
    added = torch.fft.fft2(forces[1] - forces[0], norm="forward").abs()
    assert 1 <= int((added > 0.2).sum()) // 2 <= 2
    modes = Modes.of(forces[1], length=1.0)
    x, y = modes.forward(forces[1])[0]
    divergence = modes.kx * x + modes.ky * y
    assert divergence.abs().max() < 1e-10
