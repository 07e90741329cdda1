"""The spectral head: what it can express, what it conserves, and what refinement recovers."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from pelagos.models.losses import ChannelGroups
from pelagos.models.spectral_head import (
    Propagator,
    SpectralHead,
    project_solenoidal,
    refine,
    relative_residual,
    step_residual,
)
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Boundary, Grid

PERIODIC: tuple[Boundary, Boundary] = ("periodic", "periodic")
INTERVAL = 0.1


def torus(
    height: int = 16,
    width: int = 12,
    length_y: float = 2.0,
    length_x: float = 1.0,
    boundary_y: tuple[Boundary, Boundary] = PERIODIC,
) -> Grid:
    return Grid(
        kind="cartesian",
        y=np.arange(height) * length_y / height,
        x=np.arange(width) * length_x / width,
        boundary_y=boundary_y,
        boundary_x=PERIODIC,
    )


def wave_numbers(grid: Grid) -> tuple[Tensor, Tensor]:
    (height, width), (dy, dx) = grid.shape, grid.spacing
    ky = 2 * math.pi * torch.fft.fftfreq(height, dy, dtype=torch.float64)[:, None]
    kx = 2 * math.pi * torch.fft.rfftfreq(width, dx, dtype=torch.float64)[None]
    return ky, kx


def smooth(grid: Grid, *leading: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    """Random fields without the highest modes, root mean square `scale`."""
    noise = torch.randn(
        *leading, *grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    height, width = grid.shape
    cy, cx = torch.fft.fftfreq(height, 1 / height)[:, None], torch.fft.rfftfreq(width, 1 / width)[None]
    decay = torch.exp(-(cy**2 + cx**2) / 8).double() * (cy.abs() < height / 2) * (cx < width / 2)
    fields: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * decay, s=grid.shape)
    return scale * fields / fields.square().mean().sqrt()


def advection_diffusion(
    grid: Grid, velocity: tuple[float, float] = (0.9, -0.4), diffusivity: float = 0.01
) -> Propagator:
    ky, kx = wave_numbers(grid)
    symbol = -1j * (velocity[0] * kx + velocity[1] * ky) - diffusivity * (kx**2 + ky**2)
    # A real field stays one only if its highest modes do not turn.
    factor = torch.exp(INTERVAL * symbol)
    factor[grid.shape[0] // 2], factor[:, -1] = 0, 0
    return lambda u: torch.fft.irfft2(torch.fft.rfft2(u) * factor, s=grid.shape)


def vorticity_flow(grid: Grid, viscosity: float = 2e-3, substeps: int = 5) -> Propagator:
    """Two-dimensional incompressible flow by RK4 on the vorticity, dealiased by the 2/3 rule."""
    ky, kx = wave_numbers(grid)
    square = kx**2 + ky**2
    inverse = torch.where(square > 0, 1 / square, 0)
    resolved = (ky.abs() < ky.abs().max() * 2 / 3) & (kx < kx.max() * 2 / 3)

    def tendency(w: Tensor) -> Tensor:
        fields = torch.stack([1j * ky * inverse * w, -1j * kx * inverse * w, 1j * kx * w, 1j * ky * w])
        u, v, w_x, w_y = torch.fft.irfft2(fields, s=grid.shape, norm="forward")
        change: Tensor = (
            -torch.fft.rfft2(u * w_x + v * w_y, norm="forward") * resolved - viscosity * square * w
        )
        return change

    def propagate(fields: Tensor) -> Tensor:
        w, h = torch.fft.rfft2(fields, norm="forward") * resolved, INTERVAL / substeps
        for _ in range(substeps):
            a = tendency(w)
            b = tendency(w + h / 2 * a)
            c = tendency(w + h / 2 * b)
            w = w + h / 6 * (a + 2 * b + 2 * c + tendency(w + h * c))
        advanced: Tensor = torch.fft.irfft2(w, s=grid.shape, norm="forward")
        return advanced

    return propagate


def trajectory(propagate: Propagator, anchor: Tensor, frames: int) -> Tensor:
    states = [anchor[None]]
    for _ in range(frames):
        states.append(propagate(states[-1]))
    return torch.cat(states[1:]).detach()


def relative_error(frames: Tensor, truth: Tensor) -> float:
    return float((frames - truth).norm() / truth.norm())


GRID = torus()
PROPAGATE = advection_diffusion(GRID)
ANCHOR = smooth(GRID, 2, seed=1)
TRUTH = trajectory(PROPAGATE, ANCHOR, 6)
FORECAST = TRUTH + smooth(GRID, 6, 2, seed=2, scale=0.05)


@pytest.mark.parametrize("shape", [(16, 12), (15, 11), (8, 9), (9, 8)])
def test_the_head_starts_as_the_identity_and_reaches_every_mode(shape: tuple[int, int]) -> None:
    grid = torus(*shape)
    frames = smooth(grid, 3, 2)
    head = SpectralHead((3, 2, *shape), grid, gain=True)
    assert torch.equal(head(frames), frames)
    wanted = torch.randn(3, 2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    head.bias.data = torch.fft.rfft2(wanted, norm="forward")
    torch.testing.assert_close(head(frames), frames + wanted, rtol=0, atol=1e-14)


def test_the_gain_mixes_channels_mode_by_mode() -> None:
    head = SpectralHead((1, 2, *GRID.shape), GRID, gain=True)
    frames = smooth(GRID, 5, 2)
    assert head.gain is not None
    head.gain.data[0, 1] = 1j * wave_numbers(GRID)[1].expand(head.gain.shape[2:])
    derivative = torch.fft.irfft2(1j * wave_numbers(GRID)[1] * torch.fft.rfft2(frames[:, 1]), s=GRID.shape)
    torch.testing.assert_close(head(frames)[:, 0], frames[:, 0] + derivative)
    assert torch.equal(head(frames)[:, 1], frames[:, 1])


def test_a_frozen_mean_is_conserved_whatever_the_coefficients() -> None:
    head = SpectralHead((3, 2, *GRID.shape), GRID, gain=True, freeze_mean=True)
    for parameter in head.parameters():
        parameter.data += 0.3
    frames = smooth(GRID, 3, 2) + 1
    assert not torch.allclose(head(frames), frames)
    torch.testing.assert_close(head(frames).mean((2, 3)), frames.mean((2, 3)))


def divergence(fields: Tensor, grid: Grid) -> Tensor:
    ky, kx = wave_numbers(grid)
    u, v = torch.fft.rfft2(fields, norm="forward").unbind(1)
    divergence_BHW: Tensor = torch.fft.irfft2(1j * (kx * u + ky * v), s=grid.shape, norm="forward")
    return divergence_BHW


@pytest.mark.parametrize("shape", [(16, 12), (15, 11)])
def test_the_projection_keeps_solenoidal_flows_and_removes_gradients(shape: tuple[int, int]) -> None:
    grid = torus(*shape)
    ky, kx = wave_numbers(grid)
    potential, stream = torch.fft.rfft2(smooth(grid, 2, 3), norm="forward")
    to_fields = {"s": grid.shape, "norm": "forward"}
    gradient = torch.fft.irfft2(torch.stack([1j * kx * potential, 1j * ky * potential], 1), **to_fields)
    flow = torch.fft.irfft2(torch.stack([1j * ky * stream, -1j * kx * stream], 1), **to_fields) + 0.7
    torch.testing.assert_close(project_solenoidal(flow + gradient, grid, ((0, 1),)), flow)


def test_the_projection_is_idempotent_on_noise_and_leaves_other_channels_alone() -> None:
    noise = torch.randn(2, 3, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = project_solenoidal(noise, GRID, ((2, 0),))
    torch.testing.assert_close(project_solenoidal(once, GRID, ((2, 0),)), once)
    torch.testing.assert_close(once[:, 1], noise[:, 1])


def test_the_projection_knows_which_way_rows_run() -> None:
    frames = project_solenoidal(smooth(GRID, 3, 2), GRID, ((0, 1),))
    upside_down = Grid(
        kind="cartesian", y=GRID.y[::-1].copy(), x=GRID.x, boundary_y=PERIODIC, boundary_x=PERIODIC
    )
    torch.testing.assert_close(project_solenoidal(frames.flip(2), upside_down, ((0, 1),)), frames.flip(2))


def test_the_residual_is_the_defect_of_each_step_over_its_duration() -> None:
    residual = step_residual(FORECAST, ANCHOR, PROPAGATE, INTERVAL)
    torch.testing.assert_close(residual[0], (FORECAST[0] - TRUTH[0]) / INTERVAL)
    torch.testing.assert_close(residual[3], (FORECAST[3] - PROPAGATE(FORECAST[2])) / INTERVAL)


def test_only_a_trajectory_in_order_from_its_own_start_has_no_residual() -> None:
    def residual(frames: Tensor) -> float:
        return relative_residual(frames, ANCHOR, PROPAGATE)

    assert residual(TRUTH) < 1e-14
    assert residual(TRUTH[[3, 0, 5, 1, 4, 2]]) > 0.3
    assert residual(ANCHOR.expand_as(TRUTH)) > 0.3
    assert residual(smooth(GRID, 6, 2, seed=9)) > 0.3
    assert residual(trajectory(PROPAGATE, smooth(GRID, 2, seed=9), 6)) > 0.3
    assert residual(torch.zeros_like(TRUTH)) > 0.3


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("weight", ["l2", "energy"])
def test_refinement_recovers_the_trajectory_of_a_linear_equation(
    weight: Literal["l2", "energy"], window: int | None
) -> None:
    found = refine(
        FORECAST,
        ANCHOR,
        PROPAGATE,
        INTERVAL,
        GRID,
        weight=weight,
        diffusivity=0.01,
        window=window,
        max_evaluations=150,
        tolerance=1e-8,
    )
    assert relative_error(FORECAST, TRUTH) > 0.04
    # Six steps that do not amplify errors leave at most six times the tolerance.
    assert relative_error(found.frames, TRUTH) < 6e-8
    assert found.accepted
    assert found.residual_after < 2e-8 < 1e-2 < found.residual_before
    assert found.residual_after == pytest.approx(relative_residual(found.frames, ANCHOR, PROPAGATE), rel=1e-2)


def test_refinement_does_not_depend_on_the_units_of_a_channel() -> None:
    units = torch.tensor([1e5, 1e-4], dtype=torch.float64)[:, None, None]
    plain = refine(FORECAST, ANCHOR, PROPAGATE, INTERVAL, GRID, max_evaluations=12)
    scaled = refine(FORECAST * units, ANCHOR * units, PROPAGATE, INTERVAL, GRID, max_evaluations=12)
    torch.testing.assert_close(scaled.frames / units, plain.frames, rtol=0, atol=1e-6)
    assert scaled.residual_after == pytest.approx(plain.residual_after, rel=1e-4)


def test_a_group_of_channels_is_measured_by_their_common_scale() -> None:
    anchor = torch.tensor([3.0, 4.0], dtype=torch.float64)[:, None, None].expand(2, 4, 4)

    def raise_the_first_channel(u: Tensor) -> Tensor:
        return u + torch.tensor([1.0, 0.0])[:, None, None]

    alone = relative_residual(anchor[None], anchor, raise_the_first_channel)
    assert alone == pytest.approx(math.sqrt((1 / 9) / 2))
    grouped = relative_residual(anchor[None], anchor, raise_the_first_channel, groups=((0, 1),))
    assert grouped == pytest.approx(math.sqrt((1 / 12.5) / 2))


def test_grouping_a_velocity_helps_where_one_component_is_next_to_nothing() -> None:
    def incompressible(u: Tensor) -> Tensor:
        return project_solenoidal(PROPAGATE(u), GRID, ((0, 1),))

    shear = torch.cos(math.pi * torch.from_numpy(GRID.y))[:, None].expand(GRID.shape)
    anchor = torch.stack([shear, 1e-3 * shear.roll(2, 1)])
    truth = trajectory(incompressible, anchor, 6)
    forecast = truth + smooth(GRID, 6, 2, seed=2, scale=0.05)

    def error(groups: ChannelGroups) -> float:
        found = refine(forecast, anchor, incompressible, INTERVAL, GRID, groups=groups, max_evaluations=15)
        return relative_error(found.frames, truth)

    assert error(((0, 1),)) < error(()) / 10


def test_carrying_corrections_on_saves_evaluations() -> None:
    def evaluations(carry: float) -> int:
        found = refine(
            FORECAST, ANCHOR, PROPAGATE, INTERVAL, GRID, max_evaluations=150, tolerance=1e-6, carry=carry
        )
        assert found.residual_after < 2e-6
        return found.evaluations

    assert evaluations(1.0) < evaluations(0.5) < evaluations(0.0)


def test_the_truth_is_left_as_it_is() -> None:
    found = refine(TRUTH, ANCHOR, PROPAGATE, INTERVAL, GRID)
    assert found.frames is TRUTH
    assert not found.accepted
    assert found.residual_after == found.residual_before < 1e-14


def test_frames_are_returned_unchanged_where_the_residual_does_not_fall() -> None:
    # One evaluation is spent on posing the problem: nothing is left to search with.
    found = refine(FORECAST, ANCHOR, PROPAGATE, INTERVAL, GRID, max_evaluations=1)
    assert not found.accepted
    assert found.frames is FORECAST
    assert found.residual_after == found.residual_before


def test_frames_are_returned_unchanged_where_the_propagator_breaks_down() -> None:
    found = refine(FORECAST, ANCHOR, lambda u: u * math.nan, INTERVAL, GRID)
    assert not found.accepted
    assert found.frames is FORECAST


@pytest.mark.parametrize("broken", [4, 7])
def test_a_trial_step_that_the_propagator_cannot_bear_does_not_spoil_the_search(broken: int) -> None:
    calls: list[Tensor] = []

    def fragile(u: Tensor) -> Tensor:
        calls.append(u)
        return PROPAGATE(u) * (math.nan if len(calls) == broken else 1.0)

    found = refine(FORECAST, ANCHOR, fragile, INTERVAL, GRID)
    assert found.accepted
    assert found.residual_after < 1e-6 < 1e-2 < found.residual_before


def test_the_budget_of_evaluations_is_kept_within_each_window() -> None:
    calls: list[int] = []

    def counted(u: Tensor) -> Tensor:
        calls.append(len(u))
        return PROPAGATE(u)

    found = refine(FORECAST, ANCHOR, counted, INTERVAL, GRID, window=4, max_evaluations=7, tolerance=0)
    assert calls == [6] + [4] * 7 + [2] * 7 + [6]
    assert found.evaluations == len(calls)
    assert found.seconds > 0


def test_a_frozen_mean_survives_refinement() -> None:
    found = refine(FORECAST + 0.2, ANCHOR, PROPAGATE, INTERVAL, GRID, freeze_mean=True)
    assert found.accepted
    torch.testing.assert_close(found.frames.mean((2, 3)), (FORECAST + 0.2).mean((2, 3)))


def test_refined_velocities_are_free_of_divergence() -> None:
    anchor = project_solenoidal(ANCHOR[None], GRID, ((0, 1),))[0]
    truth = trajectory(PROPAGATE, anchor, 6)
    forecast = truth + smooth(GRID, 6, 2, seed=2, scale=0.05)
    found = refine(forecast, anchor, PROPAGATE, INTERVAL, GRID, velocity=((0, 1),), max_evaluations=10)
    assert divergence(forecast, GRID).abs().max() > 1
    assert divergence(found.frames, GRID).abs().max() < 1e-12
    assert relative_error(found.frames, truth) < 1e-2


def test_a_forecast_made_in_inference_mode_and_single_precision_is_refined() -> None:
    with torch.inference_mode():
        found = refine(FORECAST.float(), ANCHOR.float(), PROPAGATE, INTERVAL, GRID)
    assert found.accepted
    assert found.frames.dtype == torch.float64
    assert relative_error(found.frames, TRUTH) < 1e-4


@pytest.mark.parametrize("window", [None, 2])
def test_refinement_lowers_the_error_of_a_nonlinear_forecast_fiftyfold(window: int | None) -> None:
    grid = torus(32, 32, 2 * math.pi, 2 * math.pi)
    propagate = vorticity_flow(grid)
    anchor = trajectory(propagate, smooth(grid, 1, scale=2.0), 1)[0]
    truth = trajectory(propagate, anchor, 6)
    assert relative_error(anchor.expand_as(truth), truth) > 0.15
    # A network's faults: wrong dynamics, whose errors add up, and noise of its own in every frame.
    wrong = trajectory(vorticity_flow(grid, viscosity=2e-2), anchor, 6)
    forecast = wrong + smooth(grid, 6, 1, seed=5, scale=0.02 * float(truth.std()))
    found = refine(forecast, anchor, propagate, INTERVAL, grid, window=window, max_evaluations=50)
    assert relative_error(forecast, truth) > 0.05
    assert relative_error(found.frames, truth) < relative_error(forecast, truth) / 50


def test_bounded_domains_are_refused() -> None:
    walls = torus(boundary_y=("wall", "wall"))
    message = r"periodic along y and x.*found boundary_y \('wall', 'wall'\)"
    with pytest.raises(DataError, match=message):
        refine(FORECAST, ANCHOR, PROPAGATE, INTERVAL, walls)
    with pytest.raises(DataError, match=message):
        SpectralHead((6, 2, *walls.shape), walls)
