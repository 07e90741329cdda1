"""Fourier modes: the part of a velocity that has no divergence."""

import pytest
import torch

from pelagos.models.refinement.spectral_modes import project_solenoidal
from pelagos.preprocessing.grid import Grid
from tests.models.refinement.periodic_fields import PERIODIC, smooth, torus, wave_numbers

GRID = torus()


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
