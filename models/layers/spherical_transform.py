"""Spherical transform: fields of the whole sphere as coefficients of real spherical harmonics, on any latitudes.

Coefficients are fitted by least squares over the rows, weighted by area, which is exact for fields that have no higher
degrees, on Gaussian latitudes and on others. Everything is a product of matrices, so that it compiles and needs no
library of transforms; up to some dozens of degrees that is also the fastest way.

Shapes: B batch, C channels, H rows, W columns, M = L orders and degrees, K = L (L + 1) / 2 pairs of them.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pelagos.models.context import Sphere
from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.spherical_encoding import legendre_functions
from pelagos.models.layers.weight_cache import cache_tensors

Angles = tuple[float, ...]


def gaussian_grid(rows: int) -> tuple[Angles, Angles]:
    """Gaussian latitudes from north to south, and twice as many longitudes [degrees].

    >>> [round(y, 1) for y in gaussian_grid(3)[0]]
    [50.8, 0.0, -50.8]
    """
    sines = np.polynomial.legendre.leggauss(rows)[0][::-1]
    return tuple(np.rad2deg(np.arcsin(sines)).tolist()), tuple((np.arange(2 * rows) * 180 / rows).tolist())


def places_of(sphere: Sphere | None, shape: tuple[int, int]) -> tuple[Angles, Angles]:
    """Latitudes and longitudes of the points of a call [degrees]; evenly spaced cells where nobody says.

    Raises:
        ValueError: the grid does not cover the whole sphere.
    """
    if sphere is None:
        rows, columns = shape
        # In Python's numbers, which a compiler can follow.
        latitude = tuple(90 - (row + 0.5) * 180 / rows for row in range(rows))
        return latitude, tuple(column * 360 / columns for column in range(columns))
    if not sphere.whole:
        raise ValueError(f"spherical harmonics need the whole sphere; the grid of {shape} is a part of it")
    return sphere.latitude, sphere.longitude


@dataclass(frozen=True)
class SphericalTransform:
    """The transform of one grid.

    Attributes:
        latitude: of the rows [degrees].
        longitude: of the columns [degrees], evenly all the way round.
        degrees: L; a grid too coarse for them has coefficients of 0 beyond those that it carries.
    """

    latitude: Angles
    longitude: Angles
    degrees: int

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, K, 2) coefficients of cosines and sines round the Earth, in order of orders, then degrees."""
        waves_WM2, _, analysis_MLH = self._matrices(x_BCHW)
        with full_precision(x_BCHW):
            circles = torch.einsum("bchw,wmt->bchmt", _exact(x_BCHW), waves_WM2) / len(self.longitude)
            full = torch.einsum("bchmt,mlh->bcmlt", circles, analysis_MLH)
        return full.flatten(2, 3).index_select(2, self._pairs(x_BCHW))

    def backward(self, coefficients_BCK2: Tensor) -> Tensor:
        """(B, C, H, W) the fields of coefficients."""
        waves_WM2, legendre_MLH, _ = self._matrices(coefficients_BCK2)
        size, degrees = coefficients_BCK2.shape[:2], self.degrees
        full = coefficients_BCK2.new_zeros(*size, degrees**2, 2)
        full = full.index_copy(2, self._pairs(coefficients_BCK2), coefficients_BCK2)
        with full_precision(coefficients_BCK2):
            circles = torch.einsum("bcmlt,mlh->bchmt", full.unflatten(2, (degrees, degrees)), legendre_MLH)
            return torch.einsum("bchmt,wmt->bchw", circles, waves_WM2)

    def sines(self, like: Tensor) -> Tensor:
        """(H,) of the latitudes, on the device of a tensor and of its type."""
        (sines_H,) = _sines(self.latitude, like.dtype, like.device)
        return sines_H

    def _matrices(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        return _matrices(self.latitude, self.longitude, self.degrees, dtype, like.device)

    def _pairs(self, like: Tensor) -> Tensor:
        return constant(pairs(self.degrees), like.device)


def pairs(degrees: int) -> tuple[int, ...]:
    """Positions of the orders and degrees that exist, l >= m, among all m * L + l."""
    return tuple(m * degrees + n for m in range(degrees) for n in range(m, degrees))


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


@cache_tensors
def _sines(latitude: Angles, dtype: torch.dtype, device: torch.device) -> tuple[Tensor]:
    degrees = torch.tensor(latitude, dtype=torch.float64, device="cpu")
    return (torch.deg2rad(degrees).sin().to(device=device, dtype=dtype),)


@cache_tensors
def _matrices(
    latitude: Angles, longitude: Angles, degrees: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """(W, M, 2) waves round the Earth, (M, L, H) Legendre functions, and the same that fit coefficients."""
    # On the host, though a caller may build networks without memory.
    y, x = (
        torch.deg2rad(torch.tensor(part, dtype=torch.float64, device="cpu")) for part in (latitude, longitude)
    )
    # Of as many waves as rows and columns tell apart.
    carried = min(degrees, len(y), (len(x) + 1) // 2)
    functions = legendre_functions(y.sin(), y.cos(), carried)
    legendre = y.new_zeros(degrees, degrees, len(y))
    analysis = torch.zeros_like(legendre)
    # Of rows on a pole there is no area, but they must not vanish from the fit.
    weights = y.cos().clamp(min=1e-3).sqrt()
    for m in range(carried):
        # A constant 1 has the coefficient 1, whatever the number of degrees.
        part = math.sqrt(4 * math.pi) * torch.stack([functions[n, m] for n in range(m, carried)])
        legendre[m, m:carried] = part
        analysis[m, m:carried] = torch.linalg.pinv((part * weights).T) * weights
    order = torch.arange(degrees, dtype=torch.float64, device="cpu")
    scale = (1 + (order > 0).double()).sqrt()[:, None]
    waves = scale * torch.stack([(x[:, None] * order).cos(), (x[:, None] * order).sin()], -1)
    made = waves, legendre, analysis
    first, second, third = (one.to(device=device, dtype=dtype) for one in made)
    return first, second, third
