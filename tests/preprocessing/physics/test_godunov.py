import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.godunov import (
    advance,
    conservative,
    hllc_flux,
    limited_slope,
    outflow,
    primitive,
    stable_step,
)

GAMMA = 1.4


def random_gas(*shape: int) -> Tensor:
    """(4, ...) primitive states with positive density and pressure."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(4, *shape, dtype=torch.float64, generator=generator)
    return values * torch.tensor([1.0, 2, 2, 1]).double().view(4, *[1] * len(shape)) + torch.tensor(
        [0.5, -1, -1, 0.5]
    ).double().view(4, *[1] * len(shape))


def physical_flux(state: Tensor, normal: int) -> Tensor:
    pressure = state[3]
    q, across = conservative(state, GAMMA), state[normal]
    pushed = torch.zeros_like(q)
    pushed[normal], pushed[3] = pressure, pressure * across
    return q * across + pushed


def test_primitive_and_conservative_states_are_inverse() -> None:
    gas = random_gas(3, 5)
    torch.testing.assert_close(primitive(conservative(gas, GAMMA), GAMMA), gas)
    at_rest = torch.tensor([2.0, 0.0, 0.0, 0.8], dtype=torch.float64)
    assert conservative(at_rest, GAMMA).tolist() == pytest.approx([2, 0, 0, 2])


def test_slopes_are_exact_for_lines_and_zero_at_extremes() -> None:
    one = torch.tensor([1.0, -2.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    other = torch.tensor([1.0, -2.0, 0.0, -1.0, 3.0], dtype=torch.float64)
    slopes = limited_slope(one, other)
    assert slopes[:4].tolist() == pytest.approx([1, -2, 0, 0], rel=1e-11)
    assert 1 < slopes[4] < 2, "between the smaller difference and the mean"
    assert torch.equal(limited_slope(other, one)[3:], slopes[3:])


@pytest.mark.parametrize("normal", [1, 2])
def test_the_flux_between_equal_states_is_the_physical_one(normal: int) -> None:
    gas = random_gas(40)
    torch.testing.assert_close(hllc_flux(gas, gas, normal, GAMMA), physical_flux(gas, normal))


@pytest.mark.parametrize("normal", [1, 2])
def test_supersonic_flow_takes_the_flux_of_the_side_it_comes_from(normal: int) -> None:
    left, right = random_gas(20), random_gas(20).flip(-1)
    for sign, upwind in ((1, left), (-1, right)):
        for state in (left, right):
            state[normal] = sign * (5 + state[normal].abs())
        torch.testing.assert_close(hllc_flux(left, right, normal, GAMMA), physical_flux(upwind, normal))


def test_a_contact_at_rest_lets_nothing_through_but_pressure() -> None:
    left = torch.tensor([1.0, 0.0, 0.7, 2.0], dtype=torch.float64)
    right = torch.tensor([0.1, 0.0, -0.4, 2.0], dtype=torch.float64)
    assert hllc_flux(left, right, 1, GAMMA).tolist() == pytest.approx([0, 2, 0, 0], abs=1e-15)


def test_what_leaves_one_cell_enters_another() -> None:
    gas = random_gas(6, 7, 2)
    for normal in (1, 2):
        net = outflow(gas, normal, GAMMA)
        assert net.shape == gas.shape
        assert net.sum(dim=(1, 2)).abs().max() < 1e-13
        assert net.abs().max() > 0.1


def test_the_longest_step_adds_the_waves_of_both_axes() -> None:
    gas = torch.tensor([1.4, 3.0, -2.0, 1.0], dtype=torch.float64).view(4, 1, 1, 1).expand(4, 3, 3, 2)
    # The speed of sound is 1: waves cross 3 / 0.5 cells along y and 4 / 0.25 along x in one unit of time.
    found = stable_step(conservative(gas, GAMMA), GAMMA, (0.5, 0.25), 0.8)
    assert found.tolist() == pytest.approx([0.8 / 22] * 2)


def test_gradients_through_recomputed_steps_are_those_of_differences() -> None:
    gas = conservative(random_gas(4, 4, 1), GAMMA).requires_grad_()

    def end(q: Tensor) -> Tensor:
        return advance(q, GAMMA, (0.25, 0.25), 0.02, 0.8, 0.01)

    assert torch.autograd.gradcheck(end, gas, atol=1e-6, rtol=1e-4, fast_mode=True)
    with torch.no_grad():
        torch.testing.assert_close(end(gas), end(gas.detach()))
