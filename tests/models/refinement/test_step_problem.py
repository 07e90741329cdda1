"""What it means for frames to follow from each other: residuals, their norms, and what is built in."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pelagos.models.refinement.spectral_modes import project_solenoidal, to_modes
from pelagos.models.refinement.step_problem import SobolevWeight, StepProblem, root_mean_square
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.kolmogorov import KolmogorovConfig
from tests.models.refinement.linear_flow import ANCHOR, FORECAST, GRID, INTERVAL, PROBLEM, TRUTH
from tests.models.refinement.periodic_fields import smooth, torus, wave_numbers


def residual(frames: Tensor, problem: StepProblem = PROBLEM) -> float:
    return float(problem.relative_residual(frames[None], ANCHOR[None]))


def test_the_defect_is_of_each_step() -> None:
    defect = PROBLEM.defect(FORECAST[None], ANCHOR[None])[0]
    torch.testing.assert_close(defect[0], FORECAST[0] - TRUTH[0])
    torch.testing.assert_close(defect[3], FORECAST[3] - PROBLEM.propagate(FORECAST[None, 2:3])[0, 0])


@pytest.mark.parametrize("exponent", [0.0, -1.0, 1.0])
def test_only_a_trajectory_in_order_from_its_own_start_has_no_residual(exponent: float) -> None:
    problem = replace(PROBLEM, weight=SobolevWeight(exponent=exponent))
    assert residual(TRUTH, problem) < 1e-13
    assert residual(TRUTH[[3, 0, 5, 1, 4, 2]], problem) > 0.2
    assert residual(ANCHOR.expand_as(TRUTH), problem) > 0.2
    assert residual(smooth(GRID, 6, 2, seed=9), problem) > 0.2
    assert residual(torch.zeros_like(TRUTH), problem) > 0.2


def test_a_group_of_channels_is_measured_by_their_common_scale() -> None:
    anchor = torch.tensor([3.0, 4.0], dtype=torch.float64)[:, None, None].expand(2, *GRID.shape)
    raised = torch.tensor([1.0, 0.0])[:, None, None]
    alone = replace(PROBLEM, propagate=lambda states: states + raised)
    assert float(alone.relative_residual(anchor[None, None], anchor[None])) == pytest.approx(
        math.sqrt((1 / 9) / 2)
    )
    grouped = replace(alone, groups=((0, 1),))
    assert float(grouped.relative_residual(anchor[None, None], anchor[None])) == pytest.approx(
        math.sqrt((1 / 12.5) / 2)
    )


def test_a_weight_counts_each_wave_by_its_length() -> None:
    _, kx = wave_numbers(GRID)
    x = torch.from_numpy(GRID.x)
    wave = torch.cos(2 * 2 * math.pi * x).expand(1, 1, 1, *GRID.shape)
    problem = replace(PROBLEM, weight=SobolevWeight(exponent=-1, alpha=3.0))
    expected = math.sqrt(0.5 / (3 + float(kx[0, 2]) ** 2))
    assert float(root_mean_square(problem.measured(wave))) == pytest.approx(expected)


def test_norms_are_those_of_the_reference(shared: Path) -> None:
    folder = shared / "fixtures" / "spectral_refiner"
    cases = json.loads((folder / "sobolev_values.json").read_text())["cases"]
    with np.load(folder / "sobolev_fields.npz") as file:
        a, b = (torch.from_numpy(file[name]).permute(0, 3, 2, 1) for name in ("a", "b"))
    assert len(cases) == 80
    for case in cases:
        order, side, n = case["norm_order"], case["diam"], a.shape[-1]
        # Its order s stands for an exponent of s / 2, and 0 for 1; its transform lacks the factor 1 / n^2.
        weight = SobolevWeight(exponent=order / 2 if order else 1.0, alpha=case["alpha"])
        amplitudes = weight.amplitudes(torus(n, n, side, side))

        def size(fields: Tensor, amplitudes: Tensor = amplitudes) -> Tensor:
            found: Tensor = torch.fft.irfft2(
                amplitudes * to_modes(fields), s=fields.shape[-2:], norm="forward"
            )
            return found.flatten(1).square().sum(1).sqrt()

        found = size(a - b) / size(b) if case["relative"] else size(a - b) * n
        found = found / math.sqrt(a.shape[1]) if case["time_average"] else found
        assert float(found.mean()) == pytest.approx(case["value_a_b"], rel=1e-9), case


def test_an_equation_gives_its_velocity_its_means_and_its_groups() -> None:
    flow = KolmogorovConfig().build()
    state = flow.initial(0, range(2), (8, 8))
    frames = state.fields[:, None]
    problem = StepProblem.of(flow, flow.grid((8, 8)), frames, state.static, state.scalars, INTERVAL)
    assert (problem.velocity, problem.fixed_means, problem.groups) == (((0, 1),), (), ((0, 1),))
    advanced = flow.propagate(state.fields, state.static, state.scalars, INTERVAL)
    torch.testing.assert_close(problem.propagate(frames)[:, 0], advanced)


def test_means_and_divergence_are_those_that_hold() -> None:
    anchor = project_solenoidal(ANCHOR, GRID, ((0, 1),)) + 0.3
    problem = replace(PROBLEM, velocity=((0, 1),), fixed_means=(1,))
    frames = problem.constrained(FORECAST[None] + 0.5, anchor[None])[0]
    torch.testing.assert_close(frames[:, 1].mean((1, 2)), anchor[1].mean().expand(6))
    torch.testing.assert_close(frames[:, 0].mean((1, 2)), FORECAST[:, 0].mean((1, 2)) + 0.5)
    ky, kx = wave_numbers(GRID)
    u, v = to_modes(frames).unbind(1)
    # The highest modes have no derivative.
    assert (kx * u + ky * v)[:, : GRID.shape[0] // 2, :-1].abs().max() < 1e-12


def test_bounded_domains_are_refused() -> None:
    with pytest.raises(DataError, match=r"periodic along y and x.*found boundary_y \('wall', 'wall'\)"):
        replace(PROBLEM, grid=torus(boundary_y=("wall", "wall")))
