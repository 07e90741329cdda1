"""Crank-Nicolson steps for the linear part, with explicit Runge-Kutta rules for the rest: the schemes of torch-cfd.

du/dt = L u + N(u) with L diagonal. The linear part is of second order in the step whatever the rule; ETDRK4
(`etdrk.py`) is what Pelagos itself steps with. These are for residuals of data that others stepped so.
"""

from collections.abc import Callable

from torch import Tensor

Nonlinear = Callable[[Tensor], Tensor]

# Carpenter and Kennedy's five stages in two registers (NASA TM-109112, 1994), rounded as torch-cfd has them.
_TIMES = (0.0, 0.1496590219993, 0.3704009573644, 0.6222557631345, 0.9582821306748, 1.0)
_CARRY = (0.0, -0.4178904745, -1.192151694643, -1.697784692471, -1.514183444257)
_STEP = (0.1496590219993, 0.3792103129999, 0.8229550293869, 0.6994504559488, 0.1530572479681)


def euler_step(u: Tensor, nonlinear: Nonlinear, symbol: Tensor, dt: float) -> Tensor:
    """The state after one step of first order; a negative step goes back in time."""
    return ((1 + dt / 2 * symbol) * u + dt * nonlinear(u)) / (1 - dt / 2 * symbol)


def rk2_step(u: Tensor, nonlinear: Nonlinear, symbol: Tensor, dt: float) -> Tensor:
    """The state after one step of Heun's rule."""
    implicit, half = 1 - dt / 2 * symbol, (1 + dt / 2 * symbol) * u
    first = nonlinear(u)
    predicted = (half + dt * first) / implicit
    return (half + dt / 2 * (first + nonlinear(predicted))) / implicit


def rk4_step(u: Tensor, nonlinear: Nonlinear, symbol: Tensor, dt: float) -> Tensor:
    """The state after one step of Carpenter and Kennedy's rule of fourth order."""
    rate = u * 0
    for stage, (carry, step) in enumerate(zip(_CARRY, _STEP, strict=True)):
        rate = nonlinear(u) + carry * rate
        half = dt / 2 * (_TIMES[stage + 1] - _TIMES[stage])
        u = ((1 + half * symbol) * u + step * dt * rate) / (1 - half * symbol)
    return u
