import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.euler import EulerConfig, block_mean
from pelagos.preprocessing.physics.initial_gas import GaussianBlobs, InitialGas, KelvinHelmholtz, Riemann

NONE = torch.empty(1, 0, 1, 1), torch.empty(1, 0, dtype=torch.float64)


def advance(fields: Tensor, duration: float, dt: float | None = None, **config: Any) -> Tensor:
    return EulerConfig(**config).build().propagate(fields, *NONE, duration, dt)


def centres(n: int, length: float = 1.0) -> tuple[Tensor, Tensor]:
    x = (torch.arange(n, dtype=torch.float64) + 0.5) * length / n
    return x[:, None].expand(n, n), x[None, :].expand(n, n)


def density_wave(n: int, time: float = 0.0) -> Tensor:
    """A density wave carried along diagonally: an exact solution."""
    y, x = centres(n)
    density = 1 + 0.2 * torch.sin(2 * math.pi * (x + y - 0.5 * time))
    one = torch.ones_like(density)
    return torch.stack([density, one, -0.5 * one, one])[None]


def test_uniform_gas_moves_on_unchanged() -> None:
    gas = torch.tensor([0.7, 0.3, -1.2, 0.9], dtype=torch.float64)[None, :, None, None].expand(1, 4, 9, 12)
    torch.testing.assert_close(advance(gas, 0.2), gas, rtol=0, atol=1e-14)


def test_smooth_flow_converges_with_second_order() -> None:
    errors = [(advance(density_wave(n), 0.2) - density_wave(n, 0.2)).abs().mean().item() for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) > 1.9


def test_a_density_wave_leaves_velocity_and_pressure_alone() -> None:
    end = advance(density_wave(24), 0.2)
    torch.testing.assert_close(end[:, 1:], density_wave(24)[:, 1:], rtol=0, atol=1e-13)


def vortex(n: int, length: float = 10.0) -> Tensor:
    """A steady isentropic vortex (Shu, ICASE 97-65), drifting with the wind."""
    y, x = (axis - length / 2 for axis in centres(n, length))
    radius = x * x + y * y
    swirl = 5 / (2 * math.pi) * torch.exp((1 - radius) / 2)
    temperature = 1 - 0.4 / (2 * 1.4) * swirl**2
    return torch.stack([temperature**2.5, 1 - y * swirl, 0.5 + x * swirl, temperature**3.5])[None]


def test_an_isentropic_vortex_drifts_with_the_wind() -> None:
    errors = []
    for n in (40, 80):
        moved = vortex(n).roll((n // 20, n // 10), dims=(-2, -1))
        errors.append((advance(vortex(n), 1.0, length=10.0) - moved).abs().mean().item())
    assert errors[1] < 1.5e-3
    assert math.log2(errors[0] / errors[1]) > 1.6


@pytest.mark.parametrize("along", ["x", "y"])
def test_a_shock_tube_has_the_exact_states_between_its_waves(along: str) -> None:
    # Sod's problem; exact states between the waves from Toro, 3rd edition, table 4.3.
    x = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    inside = (x > 0.25) & (x < 0.75)
    left = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)[:, None]
    right = torch.tensor([0.125, 0.0, 0.0, 0.1], dtype=torch.float64)[:, None]
    tube = torch.where(inside, left, right)[None, :, None, :].expand(1, 4, 4, 200)
    if along == "y":
        tube = tube[:, [0, 2, 1, 3]].transpose(-1, -2)
    end = advance(tube, 0.1)
    if along == "y":
        end = end.transpose(-1, -2)[:, [0, 2, 1, 3]]
    # From the diaphragm at 0.75: end of the rarefaction at 0.743, contact at 0.843, shock at 0.925.
    behind_contact, behind_shock = end[0, :, 0, 160], end[0, :, 0, 178]
    expected = torch.tensor([[0.42632, 0.92745, 0, 0.30313], [0.26557, 0.92745, 0, 0.30313]]).double()
    torch.testing.assert_close(behind_contact, expected[0], rtol=0, atol=5e-3)
    torch.testing.assert_close(behind_shock, expected[1], rtol=0, atol=5e-3)
    assert end[0, 0, 0, 192] == pytest.approx(0.125, abs=1e-6)


@pytest.mark.parametrize("kind", [Riemann, KelvinHelmholtz, GaussianBlobs])
def test_mass_momentum_and_energy_are_conserved_to_rounding(kind: type[InitialGas]) -> None:
    pde = EulerConfig(initial=(kind(),), length=3.0).build()
    start = pde.initial(0, range(2), (24, 31)).fields
    end = pde.propagate(start, *NONE, 0.5)
    assert (end - start).abs().max() > 0.1
    before, after = (pde.conserved(fields, *NONE) for fields in (start, end))
    assert set(before) == {"mass", "momentum_x", "momentum_y", "energy"}
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", [Riemann, KelvinHelmholtz, GaussianBlobs])
def test_density_and_pressure_stay_positive(kind: type[InitialGas]) -> None:
    pde = EulerConfig(initial=(kind(),)).build()
    state = pde.initial(5, range(6), (32, 32), torch.float32)
    end = pde.propagate(state.fields, *NONE, 0.4)
    assert end[:, [0, 3]].min() > 0.02


def quarter_turn(gas: Tensor) -> Tensor:
    turned = gas.transpose(-1, -2).flip(-1)
    return torch.stack([turned[:, 0], -turned[:, 2], turned[:, 1], turned[:, 3]], dim=1)


def test_turning_the_gas_and_advancing_it_commute() -> None:
    start = EulerConfig().build().initial(1, range(3), (20, 20)).fields
    turned = advance(quarter_turn(start), 0.1)
    torch.testing.assert_close(turned, quarter_turn(advance(start, 0.1)), rtol=0, atol=1e-13)


def test_a_trajectory_does_not_depend_on_faster_ones_beside_it() -> None:
    start = EulerConfig().build().initial(2, range(3), (16, 16)).fields
    start[1, 3] *= 40
    together = advance(start, 0.1)
    for i in range(3):
        torch.testing.assert_close(advance(start[i : i + 1], 0.1), together[i : i + 1], rtol=0, atol=0)


def test_a_step_that_is_too_long_is_shortened() -> None:
    start = density_wave(16)
    torch.testing.assert_close(advance(start, 0.2, dt=10.0), advance(start, 0.2), rtol=0, atol=0)
    assert (advance(start, 0.2, dt=0.001) - advance(start, 0.2)).abs().max() > 1e-6


def test_gas_too_fast_to_follow_is_reported() -> None:
    gas = torch.ones(1, 4, 8, 8, dtype=torch.float64)
    gas[:, 3] = 1e20
    with pytest.raises(DataError, match="so fast that more than 100000 time steps would be needed"):
        advance(gas, 1.0)


def test_coarsening_conserves() -> None:
    pde = EulerConfig().build()
    start = pde.initial(3, range(2), (24, 32)).fields
    before, after = (pde.conserved(f, *NONE) for f in (start, pde.coarsen(start, (8, 16))))
    for name, values in before.items():
        torch.testing.assert_close(after[name], values)


def test_coarsening_needs_whole_blocks() -> None:
    with pytest.raises(DataError, match="cannot average 24 x 24 cells to 24 x 10"):
        block_mean(torch.zeros(1, 24, 24), (24, 10))
