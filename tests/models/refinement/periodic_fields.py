"""Grids and smooth random fields that tests of spectral models share."""

import math

import numpy as np
import torch
from torch import Tensor

from pelagos.preprocessing.grid import Boundary, Grid

PERIODIC: tuple[Boundary, Boundary] = ("periodic", "periodic")


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
