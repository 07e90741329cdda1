"""Two channels carried and diffused: a linear equation whose trajectories are known exactly."""

import torch
from torch import Tensor

from pelagos.models.refinement.step_problem import Propagator, StepProblem
from pelagos.preprocessing.grid import Grid
from tests.models.refinement.periodic_fields import smooth, torus, wave_numbers

INTERVAL = 0.1


def factors(grid: Grid, velocity: tuple[float, float] = (0.9, -0.4), diffusivity: float = 0.01) -> Tensor:
    """(H, K) what becomes of each mode in an interval."""
    ky, kx = wave_numbers(grid)
    symbol = -1j * (velocity[0] * kx + velocity[1] * ky) - diffusivity * (kx**2 + ky**2)
    # A real field stays one only if its highest modes do not turn.
    factor = torch.exp(INTERVAL * symbol)
    factor[grid.shape[0] // 2], factor[:, -1] = 0, 0
    return factor


def propagator(factor_HK: Tensor) -> Propagator:
    def propagate(states: Tensor) -> Tensor:
        advanced: Tensor = torch.fft.irfft2(torch.fft.rfft2(states) * factor_HK, s=states.shape[-2:])
        return advanced

    return propagate


def trajectory(propagate: Propagator, anchor: Tensor, frames: int) -> Tensor:
    states = [anchor[None]]
    for _ in range(frames):
        states.append(propagate(states[-1]))
    return torch.cat(states[1:]).detach()


GRID = torus()
PROPAGATE = propagator(factors(GRID))
# Half the carrying velocity: a preconditioner that is not the equation.
PROBLEM = StepProblem(GRID, PROPAGATE, factors(GRID, (0.45, -0.2))[None, None, None])
ANCHOR = smooth(GRID, 2, seed=1)
TRUTH = trajectory(PROPAGATE, ANCHOR, 6)
FORECAST = TRUTH + smooth(GRID, 6, 2, seed=2, scale=0.05)
