"""ETDRK4: exponential time differencing with a fourth-order Runge-Kutta rule, for stiff linear parts.

du/dt = L u + N(u) with L a diagonal operator (Cox and Matthews, J. Comput. Phys. 176, 2002).
Everything is exact where N is constant, and classical RK4 where L = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_TERMS = 18  # of the Taylor series: where |z| < 1 the first one left out is below 1/21!, float64's precision


def phi_1(z: Tensor) -> Tensor:
    """(exp(z) - 1) / z, 1 at zero."""
    zero = z == 0
    # `where` has gradients of both branches, and that of 0 / 0 would be NaN.
    safe = torch.where(zero, torch.ones_like(z), z)
    return torch.where(zero, 1 + z / 2, torch.expm1(safe) / safe)


def phi_functions(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """phi_1, phi_2, phi_3 at z: phi_0 = exp and phi_{j+1}(z) = (phi_j(z) - 1/j!) / z.

    The recurrence loses all digits near zero. There the series of phi_3 is summed, and phi_2 follows
    from it.
    """
    small = z.abs() < 1
    near = torch.where(small, z, torch.zeros_like(z))
    series = torch.ones_like(z)
    for j in range(_TERMS, 3, -1):
        series = 1 + near * series / j
    near_3 = series / 6
    far = torch.where(small, torch.ones_like(z), z)
    first = phi_1(z)
    far_2 = (first - 1) / far
    second = torch.where(small, near_3 * near + 1 / 2, far_2)
    return first, second, torch.where(small, near_3, (far_2 - 1 / 2) / far)


@dataclass(frozen=True, eq=False)
class StepCoefficients:
    """The factors of one step, each of the shape of L (or of L paired with (re, im)).

    Attributes:
        full: exp(L dt), over the whole step.
        half: exp(L dt / 2), over half a step.
        stage: weight of the nonlinear term in the three inner stages.
        first: weight of the nonlinear term at the start of the step.
        middle: weight of the two terms half-way.
        last: weight of the term at the end.
    """

    full: Tensor
    half: Tensor
    stage: Tensor
    first: Tensor
    middle: Tensor
    last: Tensor

    @classmethod
    def of(cls, symbol: Tensor, dt: Tensor | float) -> "StepCoefficients":
        """The coefficients for the linear operator `symbol` and the step `dt`, which broadcast."""
        z = symbol * dt
        first, second, third = phi_functions(z)
        return cls(
            full=torch.exp(z),
            half=torch.exp(z / 2),
            stage=phi_1(z / 2) * (dt / 2),
            first=(first - 3 * second + 4 * third) * dt,
            middle=(2 * second - 4 * third) * dt,
            last=(4 * third - second) * dt,
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> "StepCoefficients":
        """The coefficients after a change of each, such as a cast or a reshape."""
        return StepCoefficients(
            *map(change, (self.full, self.half, self.stage, self.first, self.middle, self.last))
        )


def etdrk4_step(u: Tensor, nonlinear: Callable[[Tensor], Tensor], c: StepCoefficients) -> Tensor:
    """The state after one step; `u` and what `nonlinear` returns are real, or complex where the coefficients are."""
    # Stages a, b and c of equations (26) to (29) of Cox and Matthews.
    n_u = nonlinear(u)
    linear = c.half * u
    a = torch.addcmul(linear, c.stage, n_u)
    n_a = nonlinear(a)
    n_b = nonlinear(torch.addcmul(linear, c.stage, n_a))
    n_c = nonlinear(torch.addcmul(c.half * a, c.stage, 2 * n_b - n_u))
    total = torch.addcmul(c.full * u, c.first, n_u)
    total = torch.addcmul(total, c.middle, n_a + n_b)
    return torch.addcmul(total, c.last, n_c)
