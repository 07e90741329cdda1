"""Sphere start: initial states of the shallow-water equations, in balance: waves of gravity are weak from the start on.

Shapes: H latitudes, W longitudes, L degrees and orders.
"""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.physics.parameter import Positive, Range, draw
from pelagos.preprocessing.physics.spherical_modes import SphericalModes


class RandomWinds(Config):
    """A random rotational flow: jets and eddies.

    Attributes:
        largest: the largest degree with energy.
        peak: the degree where the kinetic energy of a degree is largest.
        slope: its fall beyond, as degree^-slope.
        jets: by how much zonal flows are stronger than others of their degree.
        speed: root mean square of the wind [m s-1].
    """

    kind: Literal["random"] = "random"
    largest: int = Field(default=12, gt=0)
    peak: float = Field(default=5.0, gt=0)
    slope: float = Field(default=3.0, gt=0)
    jets: float = Field(default=2.0, ge=0)
    speed: Positive = Range(low=10.0, high=25.0)

    def degrees(self) -> int:
        """How many degrees the state has: those of products of two flows."""
        return 2 * self.largest + 2

    def draw(self, rng: np.random.Generator, modes: SphericalModes) -> tuple[Tensor, Tensor]:
        """(L, L) coefficients of the vorticity [s-1], and (H, W) a hump of the height [m], here none."""
        size = self.largest + 1
        # All numbers are drawn before any is used: the flow does not depend on the grid.
        speed, numbers = draw(self.speed, rng), rng.standard_normal((2, size, size))
        degree = np.arange(size)[:, None]
        energy = degree / (1 + (degree / self.peak) ** (self.slope + 1))
        order = np.arange(size)[None, :]
        # A degree has 2 l + 1 orders, and an order other than 0 two coefficients.
        amplitude = (
            np.sqrt(energy / (2 * degree + 1)) * np.where(order > 0, 1.0, self.jets) * (order <= degree)
        )
        wind = amplitude * (numbers[0] + 1j * np.where(order > 0, numbers[1], 0.0))
        # Of a vorticity z of degree l the wind's energy is |z|^2 radius^2 / (l (l + 1)).
        twice = np.where(order > 0, 2.0, 1.0)
        rms = math.sqrt(float((twice * np.abs(wind) ** 2).sum()) / (4 * math.pi))
        vorticity = wind * np.sqrt(degree * (degree + 1)) / modes.radius * (speed / rms)
        whole = np.zeros((modes.degrees, modes.degrees), np.complex128)
        whole[:size, :size] = vorticity
        return torch.from_numpy(whole), torch.zeros(modes.shape, dtype=torch.float64)


class GalewskyJet(Config):
    """A zonal jet of the middle latitudes that becomes unstable within days.

    Source: Galewsky, Scott and Polvani, An initial-value problem for testing numerical models of the global
    shallow-water equations (Tellus A 56, 2004, 429-440), equations 2 to 4.

    Attributes:
        speed: of its middle [m s-1].
        hump: height of the disturbance [m]; without one the jet goes on as it is.
    """

    kind: Literal["galewsky"] = "galewsky"
    speed: float = Field(default=80.0, gt=0)
    hump: float = Field(default=120.0, ge=0)

    def degrees(self) -> int:
        """How many degrees the state has: the jet is narrow."""
        return 86

    def draw(self, rng: np.random.Generator, modes: SphericalModes) -> tuple[Tensor, Tensor]:
        """(L, L) coefficients of the vorticity [s-1], and (H, W) the disturbance of the height [m]."""
        wind = torch.from_numpy(self.wind(modes.latitude))[:, None].expand(*modes.shape)
        curl, _ = modes.curl_and_divergence(torch.stack([wind, torch.zeros_like(wind)]))
        y, x = modes.latitude[:, None], modes.longitude[None, :]
        hump = self.hump * np.cos(y) * np.exp(-(((x - np.pi) * 3) ** 2)) * np.exp(-15 * (np.pi / 4 - y) ** 2)
        return curl, torch.from_numpy(hump)

    def wind(self, latitude: NDArray[np.float64]) -> NDArray[np.float64]:
        """(H,) the eastward wind [m s-1] at some latitudes [radians]."""
        south, north = np.pi / 7, np.pi / 2 - np.pi / 7
        inside = (latitude > south) & (latitude < north)
        width = np.where(inside, (latitude - south) * (latitude - north), -1.0)
        largest = math.exp(-4 / (north - south) ** 2)
        return np.asarray(np.where(inside, self.speed / largest * np.exp(1 / width), 0.0))


SphereStart = Annotated[RandomWinds | GalewskyJet, Field(discriminator="kind")]
