"""InitialGas: the kinds of state from which a compressible gas can start, as (density, u, v, pressure)."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.physics import random_functions
from pelagos.preprocessing.physics.parameter import Positive, Range, draw
from pelagos.preprocessing.physics.random_functions import Axis, Values


class Riemann(Config):
    """Four constant states, one in each quarter of the square, as in PDEgym's CE-RP.

    On a periodic square two neighbouring quarters meet along two lines.

    Attributes:
        density: range of each quarter's density.
        speed: largest magnitude of each velocity component.
        pressure: range of each quarter's pressure.
    """

    kind: Literal["riemann"] = "riemann"
    density: Positive = Range(low=0.3, high=1.0)
    speed: float = Field(default=0.4, ge=0)
    pressure: Positive = Range(low=0.3, high=1.0)

    def state(self, rng: np.random.Generator, y: Axis, x: Axis) -> Values:
        """(4, H, W)."""
        shift_y, shift_x = rng.uniform(0, 1, 2)
        quarters = np.array(
            [
                [draw(self.density, rng), *rng.uniform(-self.speed, self.speed, 2), draw(self.pressure, rng)]
                for _ in range(4)
            ]
        )
        above = ((y + shift_y) % 1 >= 0.5).astype(int)
        beyond = ((x + shift_x) % 1 >= 0.5).astype(int)
        return np.moveaxis(quarters[2 * above[:, None] + beyond[None, :]], -1, 0)


class KelvinHelmholtz(Config):
    """A dense layer moving against its surroundings, disturbed across, as in PDEgym's CE-KH.

    Attributes:
        density_ratio: density of the layer; its surroundings have density 1.
        speed: speed of the layer, and of its surroundings in the opposite direction.
        thickness: thickness of the interfaces, in sides of the square.
        disturbance: root mean square of the velocity across the layer.
        pressure: pressure, the same everywhere.
    """

    kind: Literal["kelvin_helmholtz"] = "kelvin_helmholtz"
    density_ratio: Positive = Range(low=1.0, high=2.5)
    speed: Positive = Range(low=0.3, high=0.6)
    thickness: Positive = Range(low=0.02, high=0.04)
    disturbance: Positive = Range(low=0.03, high=0.1)
    pressure: Positive = 2.5  # a speed of sound of 1.9 at density 1: the layer stays subsonic

    def state(self, rng: np.random.Generator, y: Axis, x: Axis) -> Values:
        """(4, H, W)."""
        ratio, speed = draw(self.density_ratio, rng), draw(self.speed, rng)
        thickness, disturbance = draw(self.thickness, rng), draw(self.disturbance, rng)
        pressure, shift = draw(self.pressure, rng), rng.uniform()
        # From -1 to 1 across two smooth interfaces half a side apart.
        across = np.sin(2 * np.pi * (y[:, None] + shift)) / (2 * np.pi * thickness)
        layer = np.broadcast_to(np.tanh(across), (len(y), len(x)))
        # Waves along the layer have no divergence, so they make no sound.
        numbers, phases = np.arange(1, 5)[:, None], rng.uniform(0, 1, (4, 1))
        waves = rng.uniform(0.2, 1, 4) @ np.sin(2 * np.pi * (numbers * x + phases))
        waves = np.broadcast_to(waves, layer.shape)
        return np.stack(
            [
                1 + (ratio - 1) * (1 + layer) / 2,
                speed * layer,
                disturbance * random_functions.unit_rms(waves),
                np.full_like(layer, pressure),
            ]
        )


class GaussianBlobs(Config):
    """Gaussian humps of density, velocity and pressure on a gas at rest, as in PDEgym's CE-Gauss.

    Attributes:
        count: number of humps in each component.
        width: standard deviation of a hump, in sides of the square.
        density: range from the surroundings to the top of a hump.
        speed: largest magnitude of each velocity component.
        pressure: range from the surroundings to the top of a hump.
    """

    kind: Literal["gaussians"] = "gaussians"
    count: int = Field(default=8, ge=1)
    width: Range = Range(low=0.08, high=0.15)
    density: Range = Range(low=0.5, high=1.0)
    speed: float = Field(default=0.4, ge=0)
    pressure: Range = Range(low=0.5, high=1.0)

    def state(self, rng: np.random.Generator, y: Axis, x: Axis) -> Values:
        """(4, H, W)."""
        width = (self.width.low, self.width.high)

        def bumps(signed: bool) -> Values:
            blobs = random_functions.blobs(rng, y, x, self.count, width, signed)
            # Where humps overlap their sum has no bound; tanh keeps density and pressure within the range asked for.
            return np.asarray(np.tanh(blobs))

        def between(values: Range) -> Values:
            return values.low + (values.high - values.low) * bumps(signed=False)

        velocity = (self.speed * bumps(signed=True), self.speed * bumps(signed=True))
        return np.stack([between(self.density), *velocity, between(self.pressure)])


InitialGas = Annotated[Riemann | KelvinHelmholtz | GaussianBlobs, Field(discriminator="kind")]
"""A kind of initial state of a gas; a dataset draws from one or several with equal chances."""
