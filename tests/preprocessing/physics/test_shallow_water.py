"""Shallow water on the sphere: steady states, conservation, convergence, and what does not depend on the batch."""

import math

import pytest
import torch
from torch.testing import assert_close

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.physics.pde import State
from pelagos.preprocessing.physics.shallow_water import ShallowWater, ShallowWaterConfig
from pelagos.preprocessing.physics.sphere_start import GalewskyJet, RandomWinds
from pelagos.preprocessing.physics.spherical_modes import SphericalModes

SHAPE = (24, 48)


def random_flow(**options: float) -> tuple[ShallowWater, State]:
    equation = ShallowWaterConfig.model_validate(
        {"start": RandomWinds(largest=3, speed=20.0), **options}
    ).build()
    return equation, equation.initial(1, [0, 1], SHAPE)


def advance(equation: ShallowWater, state: State, hours: float, dt: float | None = None) -> torch.Tensor:
    return equation.propagate(state.fields, state.static, state.scalars, hours, dt)


def test_zonal_flow_in_balance_is_steady() -> None:
    """Williamson et al. (1992), case 2: solid rotation and its height stay as they are."""
    equation = ShallowWaterConfig(damping=1e9).build()  # [h], which is none
    config = equation.config
    modes = SphericalModes.of(torch.empty(*SHAPE, dtype=torch.float64), config.radius)
    y = torch.from_numpy(modes.latitude)[:, None].expand(*SHAPE)
    speed = 2 * math.pi * config.radius / (12 * 86400)
    fall = (config.radius * config.rotation * speed + speed**2 / 2) / config.gravity
    height = 2.94e4 / config.gravity - fall * y.sin() ** 2
    fields = torch.stack([height, speed * y.cos(), torch.zeros_like(y)])[None]
    later = equation.propagate(fields, fields[:, :0], fields.new_empty(1, 0), 12.0)
    assert_close(later[:, 0], fields[:, 0], rtol=1e-10, atol=0)
    assert_close(later[:, 1:], fields[:, 1:], rtol=0, atol=1e-8)


def test_the_undisturbed_jet_stays_and_the_disturbed_one_does_not() -> None:
    """Galewsky et al. (2004), section 3: zonal while nothing disturbs it; with the hump waves grow within days."""
    shape = (36, 72)
    meridional = []
    for hump in (0.0, 120.0):
        equation = ShallowWaterConfig(start=GalewskyJet(hump=hump)).build()
        state = equation.initial(0, [0], shape)
        later = equation.propagate(state.fields, state.static, state.scalars, 3.0)
        meridional.append(float((later[0] - later[0].mean(-1, keepdim=True)).abs().max()))
    assert meridional[0] < 1e-9
    assert meridional[1] > 1.0


def test_mass_is_conserved_to_rounding_and_energy_but_for_damping() -> None:
    losses = []
    for damping in (2.0, 1e9):
        equation, state = random_flow(damping=damping)
        before = equation.conserved(state.fields, state.static, state.scalars)
        after = equation.conserved(advance(equation, state, 12.0), state.static, state.scalars)
        assert_close(after["height"], before["height"], rtol=1e-13, atol=0)
        losses.append(float(((after["energy"] - before["energy"]) / before["energy"]).abs().max()))
    assert losses[0] < 1e-3
    assert losses[1] < 1e-7


def test_half_the_step_has_a_sixteenth_of_the_error() -> None:
    equation, state = random_flow(damping=1e9)
    reference = advance(equation, state, 3.0, 0.05)
    errors = [float((advance(equation, state, 3.0, dt) - reference).abs().max()) for dt in (0.5, 0.25)]
    assert 12 < errors[0] / errors[1] < 20


def test_a_turned_earth_has_turned_weather_and_a_mirrored_one_mirrored() -> None:
    equation, state = random_flow()
    later = advance(equation, state, 6.0)
    turned = equation.propagate(state.fields.roll(7, -1), state.static, state.scalars, 6.0)
    assert_close(turned, later.roll(7, -1), rtol=1e-10, atol=1e-9)
    signs = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)[:, None, None]
    mirrored = equation.propagate(state.fields.flip(-2) * signs, state.static, state.scalars, 6.0)
    assert_close(mirrored, later.flip(-2) * signs, rtol=1e-10, atol=1e-9)


def test_gradients_flow_to_the_initial_state() -> None:
    equation, state = random_flow()
    fields = state.fields.clone().requires_grad_()
    equation.propagate(fields, state.static, state.scalars, 0.5, 0.5)[0].sum().backward()
    assert fields.grad is not None
    assert fields.grad[0].abs().amax((1, 2)).min() > 0
    assert fields.grad[1].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_grid_is_the_whole_sphere(dtype: torch.dtype) -> None:
    equation = ShallowWaterConfig().build()
    grid = equation.grid(SHAPE)
    assert grid.whole_sphere
    assert grid.y[0] == pytest.approx(-grid.y[-1])
    assert grid.y[0] > 80
    state = equation.initial(0, [0], SHAPE, dtype)
    assert equation.propagate(state.fields, state.static, state.scalars, 1.0).dtype == dtype


def test_modes_of_a_square_are_refused() -> None:
    equation, state = random_flow()
    with pytest.raises(ConfigError, match="modes of a periodic square, not on the sphere"):
        equation.tangent(state.fields[:, None], state.static, state.scalars)
