"""Sphere spectra: energy by degree of spherical harmonics, in place of zonal wavenumbers along circles of latitude.

Legendre functions and two of the quadratures are torch-harmonics', the extra `sphere`. Shapes: N fields, H latitudes,
W longitudes, degrees l and orders m up to L.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pelagos.evaluation.streaming.frame_spectra import FrameSpectra, Modes
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Grid

SpectraName = Literal["zonal", "spherical"]


@dataclass(frozen=True, eq=False)
class SphereSpectra(FrameSpectra):
    """E(l) = Σ_m |f_lm|² / 8π of orthonormal harmonics, so that Σ_l E(l) = ½ ⟨f²⟩ over the sphere (Parseval).

    Degrees are those that the rows resolve: up to H − 1 of Gaussian latitudes and (H − 1) / 2 of others, and fewer than
    W / 2. What a field has beyond them is left out.

    Attributes:
        legendre: for each order (degree, H) Legendre functions times quadrature weights, from the degree of that order.
    """

    legendre: tuple[Floats, ...]

    @classmethod
    def on(cls, grid: Grid) -> "SphereSpectra":
        """The spectra of a grid of the whole sphere.

        Raises:
            ConfigError: torch-harmonics is not installed.
            DataError: the latitudes are of no quadrature, or circles are not whole.
        """
        weights, degrees = _quadrature(grid)
        degrees = min(degrees, len(grid.x) // 2)
        functions = _legendre(degrees, np.sin(np.deg2rad(grid.y)))
        legendre = tuple(2 * np.pi * functions[m, m:] * weights for m in range(degrees))
        shells = np.concatenate([np.arange(m, degrees) for m in range(degrees)])
        # A real field's coefficients of order −m have the same squares.
        orders = np.concatenate([np.full(degrees - m, m) for m in range(degrees)])
        factors = np.where(orders == 0, 1.0, 2.0) / (8 * np.pi)
        return cls(np.arange(degrees, dtype=np.float64), shells, factors, (), (), legendre)

    def modes(self, fields_NHW: NDArray[Any]) -> Modes:
        """(N, modes) the coefficients of fields, order by order."""
        # Fast along circles, then a sum over latitudes for each order.
        circles_NHM = fft.rfft(fields_NHW.astype(np.float64), axis=-1, norm="forward")
        parts = [circles_NHM[..., m] @ matrix.T for m, matrix in enumerate(self.legendre)]
        return np.concatenate(parts, axis=-1)


def _quadrature(grid: Grid) -> tuple[Floats, int]:
    """(H,) weights in the sine of latitude, and the number of degrees whose products they integrate exactly."""
    if grid.kind != "latlon" or not grid.periodic[1] or not grid.even[1]:
        raise DataError("spectra: spherical ones need evenly spaced longitudes all the way round the sphere")
    harmonics, count = _module("quadrature"), len(grid.y)
    ordered = np.sort(grid.y)
    step = 180.0 / count
    for name, latitudes, degrees in (
        ("legendre-gauss", np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(count)[0])), count),
        ("equiangular", np.linspace(-90.0, 90.0, count), (count + 1) // 2),
        ("centres", np.linspace(-90.0 + step / 2, 90.0 - step / 2, count), (count + 1) // 2),
    ):
        # Archives round latitudes to four digits or so.
        if np.abs(ordered - latitudes).max() < 1e-3 * step:
            # Weights are alike on both hemispheres, so that the direction of the rows does not matter.
            known = name != "centres"
            weights = harmonics.precompute_latitudes(count, name)[1].numpy() if known else _fejer(count)
            return np.asarray(weights, np.float64), degrees
    raise DataError(
        "spectra: spherical ones need latitudes of the whole sphere: Gaussian, or evenly spaced with both poles or with"
        f" half a step to each; there are {count} from {ordered[0]:g} to {ordered[-1]:g} degrees"
    )


def _fejer(count: int) -> Floats:
    """Weights of Fejér's first rule, at the middles of equal angles (Waldvogel 2006, doi:10.1007/s10543-006-0045-4)."""
    angles = (np.arange(count) + 0.5) * np.pi / count
    j = np.arange(1, count // 2 + 1)
    series = np.cos(2 * np.outer(angles, j)) / (4 * j**2 - 1)
    return np.asarray(2 / count * (1 - 2 * series.sum(axis=1)), np.float64)


def _legendre(degrees: int, sines: Floats) -> Floats:
    """(order, degree, H) orthonormal associated Legendre functions."""
    # A tensor of theirs makes ours: nothing else here needs PyTorch.
    tensor = _module("quadrature").precompute_latitudes(2)[0].new_tensor(sines)
    return np.asarray(_module("legendre").legpoly(degrees, degrees, tensor).numpy(), np.float64)


def _module(name: str) -> Any:
    try:
        return import_module(f"torch_harmonics.{name}")
    except ImportError as error:
        raise ConfigError(
            f"spectra: spherical ones are computed by torch-harmonics: pip install 'pelagos[sphere]' ({error})"
        ) from error
