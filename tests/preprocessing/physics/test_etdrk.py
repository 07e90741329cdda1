import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.etdrk import StepCoefficients, etdrk4_step, phi_functions


def exact_phi(order: int, z: float) -> float:
    """The series of phi_j in rational numbers."""
    return float(sum(Fraction(z) ** k / math.factorial(k + order) for k in range(90)))


@pytest.mark.parametrize("z", [0.0, -1e-12, 1e-6, -0.3, 0.999999, -1.0, 1.0, -3.7, 8.0, -20.0])
def test_phi_functions_are_exact_to_rounding_near_and_far_from_zero(z: float) -> None:
    values = phi_functions(torch.tensor([z], dtype=torch.float64))
    for order, value in enumerate(values, start=1):
        assert value.item() == pytest.approx(exact_phi(order, z), rel=4e-15)


def test_phi_functions_are_differentiable_everywhere() -> None:
    z = torch.tensor([-2.5, -1.0, -0.4, 0.0, 0.7, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(phi_functions, z)


def solve(
    symbol: Tensor, term: Callable[[Tensor], Tensor], start: Tensor, duration: float, num_steps: int
) -> Tensor:
    coefficients = StepCoefficients.of(symbol, duration / num_steps)
    u = start
    for _ in range(num_steps):
        u = etdrk4_step(u, term, coefficients)
    return u


def test_one_step_is_exact_for_a_linear_equation_with_a_constant_source() -> None:
    symbol = torch.tensor([-1e4, -3.0, 0.0, 0.5], dtype=torch.float64)
    start, source = torch.tensor([1.0, 2.0, 3.0, 4.0]).double(), torch.tensor([5.0, -1.0, 2.0, 1.0]).double()
    moving = torch.where(symbol == 0, 1.0, torch.expm1(symbol) / symbol)
    expected = torch.exp(symbol) * start + moving * source
    torch.testing.assert_close(solve(symbol, lambda _: source, start, 1.0, 1), expected, rtol=1e-13, atol=0)


def test_without_a_linear_part_a_step_is_classical_runge_kutta() -> None:
    def rate(u: Tensor) -> Tensor:
        return torch.sin(u) - u**2

    u, h = torch.tensor([0.3, 1.2], dtype=torch.float64), 0.2
    a = rate(u)
    b = rate(u + h / 2 * a)
    c = rate(u + h / 2 * b)
    d = rate(u + h * c)
    expected = u + h / 6 * (a + 2 * b + 2 * c + d)
    torch.testing.assert_close(solve(torch.zeros_like(u), rate, u, h, 1), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("rate", [2.0, -2.0, -40.0])
def test_errors_fall_with_the_fourth_power_of_the_step(rate: float) -> None:
    # Logistic growth, u' = r u - u^2, has a closed solution.
    symbol, start = torch.tensor([rate], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    growth = math.exp(rate)
    exact = rate * 0.5 * growth / (rate + 0.5 * (growth - 1))
    errors = [abs(solve(symbol, lambda u: -u * u, start, 1.0, n).item() - exact) for n in (16, 32)]
    assert math.log2(errors[0] / errors[1]) > 3.7
