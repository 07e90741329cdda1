"""Plain solver: the equation advanced from the known frame, the alternative to any refinement.

Shapes: N samples, M frames, C channels, H rows, W columns.
"""

import time

import torch
from torch import Tensor

from pelagos.models.refinement.step_problem import StepProblem


def solve(problem: StepProblem, initial_NCHW: Tensor, steps: int) -> tuple[Tensor, float]:
    """(N, M, C, H, W) frames from the initial ones on, and the processor time [s] that they take."""
    started = time.process_time()
    frames, state = list[Tensor](), initial_NCHW[:, None]
    with torch.inference_mode():
        for _ in range(steps):
            state = problem.propagate(state)
            frames.append(state)
    return torch.cat(frames, 1), time.process_time() - started
