"""Fourier modes of frames on a periodic grid: wave numbers, and the divergence-free part of velocities.

Shapes: N samples, M frames, C channels, H rows, W columns, K = W // 2 + 1 modes of the real transform, whose
coefficients are amplitudes (norm "forward").
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid

VelocityPairs = tuple[tuple[int, int], ...]
"""The channels of the x and y components of velocities."""


def to_modes(fields: Tensor) -> Tensor:
    """The coefficients (..., H, K) of fields (..., H, W)."""
    coefficients: Tensor = torch.fft.rfft2(fields, norm="forward")
    return coefficients


def to_fields(coefficients: Tensor, grid: Grid) -> Tensor:
    """The fields (..., H, W) of coefficients (..., H, K)."""
    fields: Tensor = torch.fft.irfft2(coefficients, s=grid.shape, norm="forward")
    return fields


def require_periodic(grid: Grid) -> None:
    """Refuse a grid whose fields Fourier modes do not represent.

    Raises:
        DataError: the grid is not periodic along both axes.
    """
    if not all(grid.periodic):
        raise DataError(
            "the spectral head needs a grid that is periodic along y and x, as its Fourier modes are; "
            f"found boundary_y {grid.boundary_y} and boundary_x {grid.boundary_x}"
        )


def wave_numbers(grid: Grid, *, derivative: bool = False) -> tuple[Tensor, Tensor]:
    """Wave numbers (H, 1) along y and (1, K) along x, in radians per unit of length."""
    height, width = grid.shape
    index_H = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)
    index_K = torch.fft.rfftfreq(width, 1 / width, dtype=torch.float64)
    if derivative:
        # On an even number of points the derivative of the highest mode vanishes at all of them.
        index_H[index_H.abs() == height / 2] = 0
        index_K[index_K == width / 2] = 0
    return _fundamental(grid.y) * index_H[:, None], _fundamental(grid.x) * index_K[None]


def project_solenoidal(frames: Tensor, grid: Grid, velocity: VelocityPairs) -> Tensor:
    """(..., C, H, W) without the gradient part of each pair of channels: the Leray projection I - k kᵀ / |k|²."""
    if not velocity:
        return frames
    ky_HK, kx_HK = (k.to(frames.device) for k in wave_numbers(grid, derivative=True))
    square_HK = kx_HK.square() + ky_HK.square()
    inverse_HK = torch.where(square_HK > 0, 1 / square_HK, 0)
    channels = list(to_modes(frames).unbind(-3))
    for along_x, along_y in velocity:
        potential = (kx_HK * channels[along_x] + ky_HK * channels[along_y]) * inverse_HK
        channels[along_x] = channels[along_x] - kx_HK * potential
        channels[along_y] = channels[along_y] - ky_HK * potential
    return to_fields(torch.stack(channels, -3), grid)


def _fundamental(centres: NDArray[np.float64]) -> float:
    """The smallest wave number of a periodic axis; negative if the axis descends."""
    points = len(centres)
    step = float(centres[-1] - centres[0]) / (points - 1) if points > 1 else 1.0
    return 2 * math.pi / (points * step)
