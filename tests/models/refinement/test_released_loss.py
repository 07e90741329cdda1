"""The released loss: equal to the reference's, and blind to whether frames follow from each other."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from pelagos.models.refinement.released_loss import (
    AdvectiveVorticity,
    relative_released_residual,
    released_residual,
    released_state,
)
from pelagos.models.refinement.step_problem import SobolevWeight, StepProblem
from pelagos.preprocessing.physics.kolmogorov import KolmogorovConfig
from tests.models.refinement.periodic_fields import torus

WEIGHTS = {"bdf0_1": (0.0, 1.0), "bdf0.5_0.5": (0.5, 0.5)}


@pytest.fixture(scope="module")
def fields(shared: Path) -> dict[str, Tensor]:
    """(T, y, x); the reference has (1, x, y, T), and a vorticity changes its sign where x and y are exchanged."""
    with np.load(shared / "fixtures" / "spectral_refiner" / "residual_fields.npz") as file:
        arrays = {name: -torch.from_numpy(file[name])[0] for name in file}
    return {name: a.permute(2, 0, 1) if a.ndim == 3 else a for name, a in arrays.items()}


def equation(fields: dict[str, Tensor], name: str) -> AdvectiveVorticity:
    return AdvectiveVorticity(1e-3, fields[f"{name}_f"])


def close(found: Tensor, expected: Tensor, unit: Tensor) -> bool:
    return bool((found - expected).norm() < 1e-9 * unit.norm())


@pytest.mark.parametrize("name", ["ns", "tg"])
def test_residuals_are_those_of_the_reference(fields: dict[str, Tensor], name: str) -> None:
    # Those of exact vortices are rounding: what counts is their size beside the rate of change.
    rate = fields[f"{name}_wt_given"]
    found = equation(fields, name).residual(fields[f"{name}_w"], rate)
    assert close(found, fields[f"{name}_residual_given_wt"], rate if name == "tg" else found)


@pytest.mark.parametrize("name", ["ns", "tg"])
@pytest.mark.parametrize("rule", WEIGHTS)
def test_steps_of_the_released_loss_are_those_of_the_reference(
    fields: dict[str, Tensor], name: str, rule: str
) -> None:
    problem, frames = equation(fields, name), fields[f"{name}_w"][:2]
    modes = released_state(problem, problem.forward(frames), 1e-3, WEIGHTS[rule])
    state, rate = (problem.backward(values) for values in modes)
    residual = released_residual(problem, frames, 1e-3, WEIGHTS[rule])
    for found, what in ((state, "w"), (rate, "wt")):
        expected = fields[f"{name}_dt0.001_{rule}_{what}"]
        assert close(found, expected, expected)
    # It is what rates of change leave when they cancel, down to 1e-8 of them: equal within their rounding, which
    # another processor's transforms change.
    expected = fields[f"{name}_dt0.001_{rule}_residual"]
    assert (residual - expected).norm() < 1e-13 * rate.norm()


def test_norms_of_residuals_are_those_of_the_reference(fields: dict[str, Tensor], shared: Path) -> None:
    facts = json.loads((shared / "fixtures" / "spectral_refiner" / "residual_values.json").read_text())
    found = equation(fields, "ns").residual(fields["ns_w"], fields["ns_wt_given"])
    coefficients = torch.fft.fft2(found, norm="forward")
    n = found.shape[-1]
    grid = torus(n, n, 1.0, 1.0)
    for order in (0, -1, -2):
        weight = SobolevWeight(exponent=order / 2 if order else 1.0, alpha=facts["alpha"])
        amplitudes = torch.cat([weight.amplitudes(grid), weight.amplitudes(grid)[:, 1:-1].flip(1)], 1)
        norm = n**2 * (amplitudes * coefficients).abs().square().sum((1, 2)).mean().sqrt()
        assert float(norm) == pytest.approx(facts["values"]["ns_given_wt"][f"s{order}"], rel=1e-9)


def test_it_does_not_tell_a_trajectory_from_other_frames(fields: dict[str, Tensor]) -> None:
    problem, truth, rate = equation(fields, "ns"), fields["ns_w"], fields["ns_wt_given"]
    noise = truth.std() * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)).double()
    shuffled = truth[[0, 3, 1, 5, 2, 7, 4, 6]]

    def released(frames: Tensor) -> float:
        return float(released_residual(problem, frames, 1e-4).norm() / rate.norm())

    def genuine(frames: Tensor) -> float:
        """By differences of frames, of fourth order in the 0.2 between them."""
        slope = (frames[:-4] - 8 * frames[1:-3] + 8 * frames[3:-1] - frames[4:]) / (12 * 0.2)
        return float(problem.residual(frames[2:-2], slope).norm() / rate.norm())

    assert released(truth) == pytest.approx(released(shuffled), rel=1e-9)
    for frames in (shuffled, truth[:1].expand_as(truth), torch.zeros_like(truth)):
        assert released(frames) < 1e-5
        assert genuine(frames) > 0.2
    assert released(noise) < 0.1 < 10 < genuine(noise)
    assert genuine(truth) < 0.05


@pytest.mark.parametrize("state", ["velocity", "vorticity"])
def test_beside_the_genuine_residual_it_is_small_for_any_frames(
    state: Literal["velocity", "vorticity"],
) -> None:
    flow = KolmogorovConfig(state=state, drag=0.1).build()
    start = flow.initial(0, [0, 1], (16, 16))
    given, interval = (start.static, start.scalars), 0.05
    truth = flow.propagate(start.fields, *given, interval)[:, None]
    problem = StepProblem.of(flow, flow.grid((16, 16)), truth, *given, interval)
    for frames, genuine in ((truth, 0.0), (truth.flip(0), 0.5), (-truth, 0.5)):
        assert float(problem.relative_residual(frames, start.fields).min()) >= genuine
        released = relative_released_residual(flow, frames, *given, interval)
        assert released.shape == (2,)
        assert 0 < float(released.max()) < 1e-4
