"""InitialFlow: the kinds of vorticity from which incompressible flows can start."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.physics import random_functions
from pelagos.preprocessing.physics.parameter import Positive, Range, draw
from pelagos.preprocessing.physics.random_functions import Axis, Values


class Sines(Config):
    """Sums of sines, as in PDEgym's NS-Sines: large, smooth eddies.

    Attributes:
        modes: largest wave number along each axis.
        decay: exponent with which the stream function's amplitudes fall with the wave number.
    """

    kind: Literal["sines"] = "sines"
    modes: int = Field(default=6, ge=1)
    decay: float = 2.5

    def vorticity(self, rng: np.random.Generator, y: Axis, x: Axis) -> Values:
        """(H, W), of arbitrary scale."""
        # The vorticity has two powers of k more than the stream function.
        return random_functions.sines(rng, y, x, self.modes, self.decay - 2)


class Gaussians(Config):
    """Gaussian vortices of both signs, as in PDEgym's NS-Gauss.

    Attributes:
        count: number of vortices.
        width: standard deviation of a vortex, in sides of the square.
    """

    kind: Literal["gaussians"] = "gaussians"
    count: int = Field(default=16, ge=1)
    width: Range = Range(low=0.04, high=0.08)

    def vorticity(self, rng: np.random.Generator, y: Axis, x: Axis) -> Values:
        """(H, W), of arbitrary scale."""
        width = (self.width.low, self.width.high)
        return random_functions.blobs(rng, y, x, self.count, width, signed=True)


class RandomFlow(Config):
    """A Gaussian random field, by default with the spectrum of McWilliams (J. Fluid Mech. 146, 1984).

    The vorticity's amplitudes are k / (1 + (k / peak)^(slope + 1)).

    Attributes:
        peak: wave number (waves a side) where the spectrum bends.
        slope: exponent of the decay beyond the peak.
        largest: largest wave number drawn.
    """

    kind: Literal["random"] = "random"
    peak: Positive = Range(low=3.0, high=5.0)
    slope: float = 3.0
    largest: int = Field(default=16, ge=1)

    def vorticity(self, rng: np.random.Generator, y: Axis, x: Axis) -> Values:
        """(H, W), of arbitrary scale."""
        return random_functions.spectrum(rng, y, x, draw(self.peak, rng), self.slope, self.largest)


class ShearLayer(Config):
    """Two opposite shear layers along x or y, disturbed by sines so that they roll up.

    Attributes:
        thickness: thickness of a layer, in sides of the square.
        disturbance: root mean square of the disturbing vorticity, relative to that of the layers.
    """

    kind: Literal["shear_layer"] = "shear_layer"
    thickness: Positive = Range(low=0.03, high=0.06)
    disturbance: Positive = Range(low=0.05, high=0.2)

    def vorticity(self, rng: np.random.Generator, y: Axis, x: Axis) -> Values:
        """(H, W), of arbitrary scale."""
        thickness, disturbance = draw(self.thickness, rng), draw(self.disturbance, rng)
        along_x, shift = rng.uniform() < 0.5, rng.uniform()
        angle = 2 * np.pi * ((y[:, None] if along_x else x[None, :]) + shift)
        # tanh of a sine is smooth and periodic, tanh of the distance would have a kink.
        sharpness = 1 / (2 * np.pi * thickness)
        layers = np.cos(angle) / np.cosh(sharpness * np.sin(angle)) ** 2
        layers = np.broadcast_to(layers, (len(y), len(x)))
        waves = random_functions.sines(rng, y, x, modes=4, decay=1.0)
        return random_functions.unit_rms(layers) + disturbance * random_functions.unit_rms(waves)


InitialFlow = Annotated[Sines | Gaussians | RandomFlow | ShearLayer, Field(discriminator="kind")]
"""A kind of initial flow; a dataset draws from one or several with equal chances."""
