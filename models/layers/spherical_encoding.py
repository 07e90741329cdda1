"""Spherical encoding: what a network knows of a place on the Earth, without a seam or a pole.

Source: Russwurm et al., Geographic Location Encoding with Spherical Harmonics and Sinusoidal Representation Networks
(ICLR 2024, arXiv:2310.06743).

Shapes: h rows, w columns, L degrees, F = L^2 harmonics, D channels of the code.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.weight_cache import cache_tensors

FREQUENCY = 30.0
"""Of the first layer's sines, as Sitzmann et al. (2020, arXiv:2006.09661) choose it."""

Degrees = tuple[float, ...]


def spherical_harmonics(latitude: Tensor, longitude: Tensor, degrees: int) -> Tensor:
    """(h, w, L^2) real orthonormal harmonics of degrees l < L, in the order (0, 0), (1, -1), (1, 0), (1, 1), ...

    Latitudes beyond a pole are places on the opposite meridian.

    Args:
        latitude: (h,) [radians], float64.
        longitude: (w,) [radians], float64.
        degrees: L.
    """
    legendre = legendre_functions(latitude.sin(), latitude.cos(), degrees)
    parts = []
    for degree in range(degrees):
        for order in range(-degree, degree + 1):
            waves = (longitude * abs(order)).sin() if order < 0 else (longitude * order).cos()
            scale = math.sqrt(2) if order else 1.0
            parts.append(scale * legendre[degree, abs(order)][:, None] * waves)
    return torch.stack(parts, -1)


def legendre_functions(sine: Tensor, cosine: Tensor, degrees: int) -> dict[tuple[int, int], Tensor]:
    """(h,) associated Legendre functions by degree and order, normalised on the sphere, without (-1)^m.

    Args:
        sine: (h,) of the latitudes, float64.
        cosine: (h,) of them.
        degrees: all degrees below this.
    """
    # The recurrence of normalised functions: with factorials it would overflow near degree 80.
    values = {(0, 0): torch.full_like(sine, math.sqrt(1 / (4 * math.pi)))}
    for m in range(degrees):
        if m:
            values[m, m] = math.sqrt((2 * m + 1) / (2 * m)) * cosine * values[m - 1, m - 1]
        if m + 1 < degrees:
            values[m + 1, m] = math.sqrt(2 * m + 3) * sine * values[m, m]
        for n in range(m + 2, degrees):
            a = math.sqrt((4 * n * n - 1) / (n * n - m * m))
            b = math.sqrt(((n - 1) ** 2 - m * m) / (4 * (n - 1) ** 2 - 1))
            values[n, m] = a * (sine * values[n - 1, m] - b * values[n - 2, m])
    return values


@cache_tensors
def _harmonics_of(
    latitude: Degrees, longitude: Degrees, degrees: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor]:
    # In double precision on the host, whatever the network's: the recurrence loses digits.
    y, x = (torch.deg2rad(torch.tensor(part, dtype=torch.float64)) for part in (latitude, longitude))
    return (spherical_harmonics(y, x, degrees).to(device=device, dtype=dtype),)


class SphericalEncoding(nn.Module):
    """A network of sines over spherical harmonics: places that are close have codes that are close.

    Args:
        degrees: L; more of them see finer details.
        dim: D, channels of the code.
        hidden: width of the two hidden layers.
    """

    def __init__(self, degrees: int, dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.degrees = degrees
        sizes = (degrees**2, hidden, hidden, dim)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            # Sines of all layers then have the same distribution (arXiv:2006.09661, section 3.2).
            bound = math.sqrt(6 / layer.in_features) if number else 1 / layer.in_features
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.uniform_(layer.bias, -bound, bound)

    def forward(self, latitude: Degrees, longitude: Degrees) -> Tensor:
        """(h, w, D) codes of places [degrees]."""
        first, second, last = self.layers
        weight = first.weight
        assert isinstance(weight, Tensor)
        (x_hwF,) = _harmonics_of(latitude, longitude, self.degrees, weight.dtype, weight.device)
        # The argument of the first sine is a phase of many turns: bf16 would leave three digits of it.
        with full_precision(x_hwF):
            x_hwD = torch.sin(FREQUENCY * first(x_hwF))
            code_hwD: Tensor = last(torch.sin(second(x_hwD)))
        return code_hwD
