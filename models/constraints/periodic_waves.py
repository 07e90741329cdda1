"""Waves of a periodic box, whose amplitudes constraints change.

Shapes: H rows, W columns, K = W // 2 + 1 columns of the real transform.
"""

import math

import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.preprocessing.errors import ConfigError


def is_periodic_box(dataset: ConstrainedDataset) -> bool:
    """Whether Fourier waves are exact: even rows and columns that both go round."""
    grid = dataset.layout.grid
    return grid.kind == "cartesian" and all(grid.periodic) and all(grid.even)


def check_periodic_box(dataset: ConstrainedDataset, kind: str) -> None:
    """Refuse grids on which Fourier waves are not exact.

    Raises:
        ConfigError: the grid is not Cartesian and even, or has sides.
    """
    if not is_periodic_box(dataset):
        grid = dataset.layout.grid
        raise ConfigError(
            f"constraints: {kind} needs an even Cartesian grid that goes round along y and x; that of"
            f" {dataset.layout.dataset} is {grid.kind} with sides {','.join(grid.boundary_y)} along y and"
            f" {','.join(grid.boundary_x)} along x: leave the constraint out there"
        )


def counts(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(H, 1) and (1, K) waves in the box along y and x; float64."""
    h, w = shape
    rows = torch.fft.fftfreq(h, 1 / h, dtype=torch.float64)[:, None]
    return rows, torch.fft.rfftfreq(w, 1 / w, dtype=torch.float64)[None]


def gradient(shape: tuple[int, int], spacing: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """(H, 1) and (1, K) wave numbers of first derivatives along y and x.

    The wave of two cells is real, its derivative is not: it counts as none.

    Args:
        shape: (H, W).
        spacing: signed, of rows and of columns.
    """
    waves = []
    for count, size, step in zip(counts(shape), shape, spacing, strict=True):
        waves.append(torch.where(2 * count.abs() == size, 0.0, count * (2 * math.pi / (size * step))))
    return waves[0], waves[1]


def forward(fields: Tensor) -> Tensor:
    """(..., H, K) amplitudes of real fields (..., H, W)."""
    amplitudes: Tensor = torch.fft.rfft2(fields)
    return amplitudes


def backward(amplitudes: Tensor, shape: tuple[int, int]) -> Tensor:
    """(..., H, W) the real fields of amplitudes (..., H, K)."""
    fields: Tensor = torch.fft.irfft2(amplitudes, s=shape)
    return fields
