"""Refinement: what it recovers, what it costs, and what it leaves alone."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from pelagos.models.refinement.minimal_residual import Refinement, refine
from pelagos.models.refinement.spectral_modes import project_solenoidal
from pelagos.models.refinement.step_problem import SobolevWeight, StepProblem
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE
from tests.models.refinement.linear_flow import (
    ANCHOR,
    FORECAST,
    GRID,
    PROBLEM,
    PROPAGATE,
    TRUTH,
    trajectory,
)
from tests.models.refinement.periodic_fields import smooth


def refined(
    forecast: Tensor = FORECAST, anchor: Tensor = ANCHOR, problem: StepProblem = PROBLEM, **options: float
) -> Refinement:
    return refine(forecast[None], anchor[None], problem, **options)  # type: ignore[arg-type]


def error(frames: Tensor, truth: Tensor = TRUTH) -> float:
    return float((frames - truth).norm() / truth.norm())


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("exponent", [0.0, -1.0, -2.0])
def test_the_trajectory_of_a_linear_equation_is_recovered(exponent: float, window: int | None) -> None:
    problem = replace(PROBLEM, weight=SobolevWeight(exponent=exponent))
    found = refine(FORECAST[None], ANCHOR[None], problem, window=window, tolerance=1e-9)
    assert error(FORECAST) > 0.04
    assert error(found.frames[0]) < 1e-6
    assert found.accepted.all()
    assert found.residual_after < 1e-7 < 1e-2 < found.residual_before
    again = problem.relative_residual(found.frames, ANCHOR[None], FORECAST[None])
    torch.testing.assert_close(found.residual_after, again)


def test_the_equations_own_symbol_as_preconditioner_needs_two_passes() -> None:
    exact = replace(PROBLEM, modes=torch.fft.rfft2(PROPAGATE(delta()))[None, None, None])
    found = refined(problem=exact, max_evaluations=2, tolerance=0)
    assert error(found.frames[0]) < 1e-12
    assert error(refined(max_evaluations=2, tolerance=0).frames[0]) > 1e-3


def delta() -> Tensor:
    field = torch.zeros(GRID.shape, dtype=torch.float64)
    field[0, 0] = 1
    return field


def test_the_units_of_a_channel_do_not_matter() -> None:
    units = torch.tensor([1e5, 1e-4], dtype=torch.float64)[:, None, None]
    plain = refined(max_evaluations=4)
    scaled = refined(FORECAST * units, ANCHOR * units, max_evaluations=4)
    torch.testing.assert_close(scaled.frames / units, plain.frames, rtol=0, atol=1e-6)
    torch.testing.assert_close(scaled.residual_after, plain.residual_after, rtol=1e-4, atol=0)


def test_samples_of_a_batch_do_not_depend_on_each_other() -> None:
    other = TRUTH.flip(1) + smooth(GRID, 6, 2, seed=3, scale=0.01)
    both = refine(
        torch.stack([FORECAST, other]), torch.stack([ANCHOR, ANCHOR.flip(0)]), PROBLEM, max_evaluations=5
    )
    alone = refined(max_evaluations=5)
    torch.testing.assert_close(both.frames[0], alone.frames[0], rtol=0, atol=1e-12)
    assert error(both.frames[1], TRUTH.flip(1)) < 1e-3


def test_the_truth_is_left_as_it_is() -> None:
    found = refined(TRUTH)
    assert torch.equal(found.frames[0], TRUTH) or error(found.frames[0]) < 1e-15
    assert found.residual_after <= found.residual_before < 1e-14


def test_frames_are_returned_unchanged_where_the_residual_does_not_fall() -> None:
    found = refined(max_evaluations=1)
    assert not found.accepted.any()
    assert torch.equal(found.frames[0], FORECAST)
    torch.testing.assert_close(found.residual_after, found.residual_before)


def test_frames_that_have_grown_are_not_accepted_for_a_residual_that_has_grown_less() -> None:
    # Ten times the trajectory errs in its first step alone; the forecast errs in every step, by less.
    wild, large = TRUTH[None] * torch.tensor([1.0, -1.0]).repeat(3)[:, None, None, None], 10 * TRUTH[None]

    def defect(frames: Tensor) -> float:
        return float(PROBLEM.defect(frames, ANCHOR[None]).norm())

    assert defect(large) > 1.5 * defect(wild)
    own = [float(PROBLEM.relative_residual(frames, ANCHOR[None])) for frames in (large, wild)]
    assert own[0] < 0.3 * own[1]
    found = refine(wild, ANCHOR[None], PROBLEM, start_NMCHW=large, max_evaluations=0)
    assert not found.accepted.any()
    assert torch.equal(found.frames, wild)


def test_a_sample_that_the_propagator_cannot_bear_is_returned_and_spoils_no_other() -> None:
    def fragile(states: Tensor) -> Tensor:
        return PROPAGATE(states) * torch.where(
            states.abs().amax((1, 2, 3, 4), keepdim=True) > 50, math.nan, 1.0
        )

    batch = torch.stack([FORECAST * 100, FORECAST])
    found = refine(batch, torch.stack([ANCHOR, ANCHOR]), replace(PROBLEM, propagate=fragile))
    assert found.accepted.tolist() == [False, True]
    assert torch.equal(found.frames[0], batch[0])
    assert error(found.frames[1]) < 1e-4


@pytest.mark.parametrize("broken", [3, 5])
def test_a_step_that_the_propagator_cannot_bear_does_not_spoil_the_search(broken: int) -> None:
    calls: list[Tensor] = []

    def fragile(states: Tensor) -> Tensor:
        calls.append(states)
        return PROPAGATE(states) * (math.nan if len(calls) == broken else 1.0)

    found = refined(problem=replace(PROBLEM, propagate=fragile))
    assert found.accepted.all()
    assert found.residual_after < 1e-4 < 1e-2 < found.residual_before


def test_the_budget_of_evaluations_is_kept_within_each_window() -> None:
    calls: list[int] = []

    def counted(states: Tensor) -> Tensor:
        calls.append(states.shape[1])
        return PROPAGATE(states)

    found = refined(problem=replace(PROBLEM, propagate=counted), window=4, max_evaluations=3, tolerance=0)
    assert calls == [6] + [4] * 3 + [2] * 3 + [6]
    assert found.evaluations == len(calls)


def test_a_mean_that_the_equation_keeps_is_that_of_the_start() -> None:
    found = refined(FORECAST + 0.2, problem=replace(PROBLEM, fixed_means=(0,)))
    torch.testing.assert_close(found.frames[0, :, 0].mean((1, 2)), ANCHOR[0].mean().expand(6))


def test_refined_velocities_are_free_of_divergence() -> None:
    anchor = project_solenoidal(ANCHOR, GRID, ((0, 1),))
    truth = trajectory(PROPAGATE, anchor, 6)
    forecast = truth + smooth(GRID, 6, 2, seed=2, scale=0.05)
    found = refined(forecast, anchor, replace(PROBLEM, velocity=((0, 1),))).frames[0]
    torch.testing.assert_close(project_solenoidal(found, GRID, ((0, 1),)), found, rtol=0, atol=1e-12)
    assert error(found, truth) < 1e-4


def test_a_forecast_made_in_inference_mode_and_single_precision_is_refined() -> None:
    with torch.inference_mode():
        found = refined(FORECAST.float(), ANCHOR.float())
    assert found.frames.dtype == torch.float64
    assert error(found.frames[0]) < 1e-4


# Frames of a trajectory, the time between them and before the first.
EQUATIONS = {
    "navier_stokes": (0.05, 0.1),
    "kolmogorov": (0.05, 0.1),
    "burgers": (0.05, 0.05),
    "korteweg_de_vries": (0.05, 0.1),
    "kuramoto_sivashinsky": (0.5, 1.0),
    "gray_scott": (10.0, 20.0),
    "allen_cahn": (0.05, 0.05),
    "wave": (0.03, 0.1),
    "euler": (0.02, 0.02),
}


# What an equation can be told that changes its fields, and the rows of its grid.
FORMS: list[tuple[str, dict[str, Any], int]] = [
    *((kind, {"length": 20.0} if kind == "kuramoto_sivashinsky" else {}, 24) for kind in EQUATIONS),
    *((kind, {"state": "vorticity"}, 24) for kind in ("navier_stokes", "kolmogorov")),
    *((kind, {"tracer": True}, 24) for kind in ("navier_stokes", "kolmogorov")),
    ("kolmogorov", {"state": "vorticity", "tracer": True}, 24),
    ("burgers", {"components": 1}, 1),
    ("korteweg_de_vries", {}, 1),
]


@pytest.mark.parametrize(("kind", "options", "rows"), FORMS)
def test_the_error_of_a_forecast_falls_a_hundredfold_by_every_equation(
    kind: str, options: dict[str, Any], rows: int
) -> None:
    pde: PDE = TypeAdapter[Any](Equation).validate_python({"kind": kind, **options}).build()
    interval, warm_up = EQUATIONS[kind]
    shape = (rows, 24)
    state = pde.initial(0, [0, 1], shape)
    frames = [pde.propagate(state.fields, state.static, state.scalars, warm_up)]
    for _ in range(5):
        frames.append(pde.propagate(frames[-1], state.static, state.scalars, interval))
    anchor, truth = frames[0], torch.stack(frames[1:], 1)
    forecast = disturbed(truth)
    problem = StepProblem.of(pde, pde.grid(shape), forecast, state.static, state.scalars, interval)
    found = refine(forecast, anchor, problem, max_evaluations=8)
    assert found.accepted.all()
    for n in range(2):
        assert error(forecast[n], truth[n]) > 5e-3
        assert error(found.frames[n], truth[n]) < 1e-4


def disturbed(truth_NMCHW: Tensor) -> Tensor:
    """Frames with errors of one per cent, of the truth's own spectrum, that add up from frame to frame."""
    noise = torch.randn(truth_NMCHW.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spectrum = torch.fft.rfft2(truth_NMCHW).abs()
    spectrum[..., 0, 0] = 0
    errors: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * spectrum, s=truth_NMCHW.shape[-2:])
    sizes = truth_NMCHW.square().mean((-2, -1), keepdim=True).sqrt()
    errors = errors / errors.square().mean((-2, -1), keepdim=True).sqrt() * sizes
    growing: Tensor = errors.cumsum(1) / math.sqrt(truth_NMCHW.shape[1] / 2)
    return truth_NMCHW + 0.01 * growing
