"""Spherical modes: fields and winds on the sphere as coefficients of spherical harmonics, and back.

Shapes: N trajectories, H Gaussian latitudes from north to south, W longitudes, L degrees and orders.
"""

from functools import lru_cache
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pelagos.preprocessing.errors import ConfigError


def _torch_harmonics() -> ModuleType:
    try:
        # By name: it has no types, and whoever checks them need not have it.
        return import_module("torch_harmonics")
    except ImportError as error:
        raise ConfigError(
            f"equations on the sphere need torch-harmonics: pip install 'pelagos[sphere]' ({error})"
        ) from error


class SphericalModes:
    """The harmonics of degrees below `degrees` on a Gaussian grid, on which integrals of their products are exact.

    Args:
        shape: (H, W).
        radius: of the sphere [m].
        dtype: real dtype of the fields.
        device: of the fields.
        degrees: L; by default a third of the latitudes, rounded up, so that products of two fields have no aliasing.

    Attributes:
        latitude: (H,) [radians], from north to south; float64.
        area: (H, 1) quadrature weights of the latitudes, whose products with 1 / W add up to 1.
        eigenvalues: (L, 1) of the Laplacian, -l (l + 1) / radius^2.
        inverse: (L, 1) their inverses, and 0 for the mean.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        radius: float,
        dtype: torch.dtype,
        device: torch.device,
        degrees: int | None = None,
    ) -> None:
        library = _torch_harmonics()
        self.shape, self.radius = shape, radius
        self.degrees = degrees or -(-shape[0] // 3)
        if shape[1] < 2 * self.degrees:
            raise ConfigError(
                f"shape {shape}: {self.degrees} waves round the Earth need {2 * self.degrees} columns; twice as many"
                " columns as rows are usual"
            )
        size = {"lmax": self.degrees, "mmax": self.degrees, "grid": "legendre-gauss", "csphase": False}
        kinds = (
            library.RealSHT,
            library.InverseRealSHT,
            library.RealVectorSHT,
            library.InverseRealVectorSHT,
        )
        transforms = [kind(*shape, **size) for kind in kinds]
        degree = torch.arange(self.degrees, dtype=torch.float64)[:, None]
        eigenvalues = -degree * (degree + 1) / radius**2
        inverse = torch.where(degree > 0, 1 / torch.where(degree > 0, eigenvalues, 1.0), 0.0)
        scale = _vector_scale(transforms[2], transforms[3], inverse / radius)
        colatitude, weights = library.quadrature.precompute_latitudes(shape[0], grid="legendre-gauss")
        self.latitude = np.asarray(np.pi / 2 - colatitude.numpy(), dtype=np.float64)
        self._forward, self._backward, self._vector_forward, self._vector_backward = (
            one.to(device=device, dtype=dtype) for one in transforms
        )
        self.area, self.eigenvalues, self.inverse, self._scale = (
            part.to(device=device, dtype=dtype)
            for part in ((weights / weights.sum())[:, None], eigenvalues, inverse, scale)
        )

    @staticmethod
    def of(fields: Tensor, radius: float) -> "SphericalModes":
        """The modes of fields (..., H, W), made once for each grid."""
        shape = (fields.shape[-2], fields.shape[-1])
        return cached_modes(shape, radius, fields.dtype, fields.device)

    @property
    def longitude(self) -> NDArray[np.float64]:
        """(W,) [radians], from 0 eastwards."""
        return np.arange(self.shape[1]) * 2 * np.pi / self.shape[1]

    def forward(self, field: Tensor) -> Tensor:
        """(..., H, W) values to (..., L, L) coefficients."""
        coefficients: Tensor = self._forward(field)
        return coefficients

    def backward(self, coefficients: Tensor) -> Tensor:
        """(..., L, L) coefficients to (..., H, W) values."""
        field: Tensor = self._backward(coefficients)
        return field

    def curl_and_divergence(self, wind: Tensor) -> tuple[Tensor, Tensor]:
        """(..., L, L) coefficients of the vorticity and the divergence of (..., 2, H, W) wind to the east and north."""
        # As the library has it for a vector turned by a quarter: its spheroidal part is then the curl.
        pair = self._scale * self._vector_forward(wind)
        return pair[..., 0, :, :], pair[..., 1, :, :]

    def wind(self, vorticity: Tensor, divergence: Tensor) -> Tensor:
        """(..., 2, H, W) eastward and northward wind of (..., L, L) coefficients."""
        pair = torch.stack([vorticity, divergence], -3)
        wind: Tensor = self._vector_backward(self.inverse * pair / self.radius)
        return wind

    def mean(self, field: Tensor) -> Tensor:
        """(...,) the mean of (..., H, W) over the sphere, exact for products of resolved fields."""
        mean: Tensor = (field.mean(-1, keepdim=True) * self.area).sum((-2, -1))
        return mean


def _vector_scale(forward: nn.Module, backward: nn.Module, inverse: Tensor) -> Tensor:
    """(L, 1) what each degree of the vector transform is multiplied by so that it undoes the inverse transform exactly.

    It is l (l + 1), which torch-harmonics 0.9 divides by in single precision: winds would lose 3e-8 of themselves at
    each transform there and back.
    """
    degrees, scale = len(inverse), torch.zeros_like(inverse)
    for degree in range(1, degrees):
        one = torch.zeros(2, degrees, degrees, dtype=torch.complex128)
        one[0, degree, 0] = 1
        scale[degree] = 1 / forward(backward(inverse * one))[0, degree, 0].real
    return scale


@lru_cache(16)
def cached_modes(
    shape: tuple[int, int],
    radius: float,
    dtype: torch.dtype,
    device: torch.device,
    degrees: int | None = None,
) -> SphericalModes:
    """The modes of a grid: making their Legendre functions takes longer than a step."""
    return SphericalModes(shape, radius, dtype, device, degrees)


def truncated(coefficients: Tensor, degrees: int) -> Tensor:
    """(..., L, L) coefficients as (..., degrees, degrees): zeros are added, or high degrees and orders left out."""
    made = coefficients.new_zeros(*coefficients.shape[:-2], degrees, degrees)
    kept = min(degrees, coefficients.shape[-1])
    made[..., :kept, :kept] = coefficients[..., :kept, :kept]
    return made
