"""What refinement gains from an error of one per cent, by every equation, and what it costs: `make bench-refinement`.

64 x 64 points, 10 frames, 16 samples in a batch, one thread, the command's defaults. The truth is the equation's own
trajectory with half its time step; the forecast is the truth with errors of its own spectrum, which add up from frame
to frame as a network's do. Beside each gain stands the plain solver from the same frame.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from benchmarks.harness import heading
from pelagos.models.refinement.minimal_residual import refine
from pelagos.models.refinement.step_problem import StepProblem
from pelagos.pipeline.forecasting.plain_solver import solve
from pelagos.pipeline.stages.refine import RefineStage
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE, State

SHAPE, FRAMES, ERROR = (64, 64), 10, 1e-2
DEFAULTS = {name: field.default for name, field in RefineStage.model_fields.items()}


@dataclass(frozen=True)
class Case:
    """An equation with its bars.

    Attributes:
        interval: between frames.
        warm_up: before the first.
        error: that refinement is to reach.
        seconds: of the processor for each sample, where there is a bar.
        step: longest time step of the truth.
    """

    interval: float
    warm_up: float
    error: float
    step: float
    seconds: float | None = None


CASES = {
    "navier_stokes": Case(0.05, 0.2, 6e-5, 0.005, 1.0),
    "kolmogorov": Case(0.05, 0.2, 6e-5, 0.0035, 1.0),
    "allen_cahn": Case(0.05, 0.05, 3e-5, 0.0125, 1.0),
    "burgers": Case(0.05, 0.1, 1e-3, 0.005),
    "korteweg_de_vries": Case(0.05, 0.2, 1e-3, 0.003),
    "kuramoto_sivashinsky": Case(1.0, 50.0, 1e-3, 0.05),
    "gray_scott": Case(10.0, 120.0, 1e-3, 2.0),
    "wave": Case(0.015, 0.1, 1e-3, 0.0025),
    "euler": Case(0.02, 0.05, 1e-3, 0.001),
}


def main() -> None:
    """Print one line for each equation, the medians over samples and seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--equations", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    heading("Refinement from an error of 1e-2")
    print("| equation | bar | error | of the solver | CPU s each | of the solver | passes | kept the bar |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in arguments.equations:
        found = [measure(kind, seed, arguments.samples) for seed in range(arguments.seeds)]
        print(
            row(kind, CASES[kind], {name: statistics.median(one[name] for one in found) for name in found[0]})
        )


def measure(kind: str, seed: int, samples: int) -> dict[str, float]:
    """Medians over samples of errors, and processor seconds for each."""
    case = CASES[kind]
    equation: PDE = TypeAdapter[Any](Equation).validate_python({"kind": kind}).build()
    state = equation.initial(seed, range(samples), SHAPE)
    anchor, truth = trajectory(equation, state, case)
    forecast = disturbed(truth, seed)
    started = time.process_time()
    problem = StepProblem.of(
        equation, equation.grid(SHAPE), forecast, state.static, state.scalars, case.interval
    )
    posed = time.process_time() - started
    options = {name: DEFAULTS[name] for name in ("window", "tolerance")}
    result = refine(forecast, anchor, problem, max_evaluations=DEFAULTS["evaluations"], **options)
    solved, seconds = solve(problem, anchor, FRAMES)
    return {
        "error": error(result.frames, truth),
        "solver_error": error(solved, truth),
        "seconds": (posed + result.cpu_seconds) / samples,
        "solver_seconds": seconds / samples,
        "passes": result.evaluations,
    }


def trajectory(equation: PDE, state: State, case: Case) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) the first frame, and (N, M, C, H, W) those after it."""

    def advance(fields: Tensor, duration: float) -> Tensor:
        with torch.inference_mode():
            return equation.propagate(fields, state.static, state.scalars, duration, case.step)

    frames = [advance(state.fields, case.warm_up)]
    for _ in range(FRAMES):
        frames.append(advance(frames[-1], case.interval))
    return frames[0], torch.stack(frames[1:], 1)


def disturbed(truth_NMCHW: Tensor, seed: int) -> Tensor:
    """The truth with errors of its own spectrum and random phases: a walk through the frames, and noise of each."""
    noise = torch.randn(truth_NMCHW.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    spectrum = torch.fft.rfft2(truth_NMCHW).abs()
    spectrum[..., 0, 0] = 0
    errors: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * spectrum, s=truth_NMCHW.shape[-2:])
    sizes = (values.square().mean((-2, -1), keepdim=True).sqrt() for values in (truth_NMCHW, errors))
    size, of_errors = sizes
    errors = errors / of_errors * size
    errors = errors.cumsum(1) / FRAMES**0.5 + 0.3 * errors
    norms = [values.flatten(1).norm(dim=1)[:, None, None, None, None] for values in (truth_NMCHW, errors)]
    scale: Tensor = ERROR * norms[0] / norms[1]
    return truth_NMCHW + scale * errors


def error(frames_NMCHW: Tensor, truth_NMCHW: Tensor) -> float:
    """The median over samples of relative L2 errors."""
    difference = (frames_NMCHW - truth_NMCHW).flatten(1).norm(dim=1)
    return float((difference / truth_NMCHW.flatten(1).norm(dim=1)).median())


def row(kind: str, case: Case, found: dict[str, float]) -> str:
    """A line of the table."""
    kept = found["error"] <= case.error and (case.seconds is None or found["seconds"] <= case.seconds)
    bar = f"{case.error:.0e}" + ("" if case.seconds is None else f" in {case.seconds:g} s")
    numbers = f"{found['error']:.1e} | {found['solver_error']:.1e} | {found['seconds']:.2f}"
    rest = f"{found['solver_seconds']:.3f} | {found['passes']:.0f} | {'yes' if kept else 'no'}"
    return f"| {kind} | {bar} | {numbers} | {rest} |"


if __name__ == "__main__":
    main()
