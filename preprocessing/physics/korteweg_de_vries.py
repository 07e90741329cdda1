"""The Korteweg-de Vries equation: waves that steepen and disperse into solitons.

Shapes: N trajectories, C fields, S scalars, H rows, W columns, K columns of the real transform.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.physics import random_functions
from pelagos.preprocessing.physics.parameter import Positive, Range, draw
from pelagos.preprocessing.physics.pde import State
from pelagos.preprocessing.physics.spectral import Modes, SpectralPDE
from pelagos.preprocessing.physics.symmetry import Scaling, Symmetries
from pelagos.preprocessing.variables import known_variable


class KortewegDeVriesConfig(Config):
    """Dispersive waves.

    Good values: the defaults, on 64 x 64 points with frames 0.05 apart. Solitons of height A are
    sqrt(12 dispersion / A), two or more grid points, wide.

    Attributes:
        length: side of the square.
        dispersion: coefficient of the third derivative.
        amplitude: root mean square of the initial elevation.
        modes: largest wave number of the initial elevation along each axis.
        max_elevation: elevation for which the time step is chosen; higher waves take shorter steps.
        courant: grid spacings that the highest wave crosses in a step at most.
    """

    kind: Literal["korteweg_de_vries"] = "korteweg_de_vries"
    length: float = Field(default=1.0, gt=0)
    dispersion: Positive = Range(low=1e-4, high=4e-4, scale="log")
    amplitude: Positive = Range(low=0.2, high=0.4)
    modes: int = Field(default=3, ge=1)
    max_elevation: float = Field(default=1.0, gt=0)
    courant: float = Field(default=0.4, gt=0, le=1)

    def build(self) -> "KortewegDeVries":
        """The equation."""
        return KortewegDeVries(self)


class KortewegDeVries(SpectralPDE):
    """du/dt + u du/dx + d d(Lap u)/dx = 0: Zakharov and Kuznetsov's form for the plane.

    Where u does not vary along y, and on a grid of a single row, it is the equation of Korteweg and de Vries. The
    linear part is dispersive (an imaginary symbol) and is stepped exactly.
    """

    kind: ClassVar[str] = "korteweg_de_vries"
    scalars = ("dispersion",)
    conserved_means = ("elevation",)
    symmetries = Symmetries(
        reflections=("y",),
        transposition=False,
        galilean={"x": "elevation"},
        scalings=(Scaling({"elevation": 1, "dispersion": 1}, time=-1),),
    )

    def __init__(self, config: KortewegDeVriesConfig) -> None:
        super().__init__(config.length)
        self.config = config
        self.variables = (known_variable("elevation"),)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        dispersion, amplitude = draw(self.config.dispersion, rng), draw(self.config.amplitude, rng)
        y, x = self.unit_axes(shape)
        sines = random_functions.unit_rms(random_functions.sines(rng, y, x, self.config.modes, decay=2.0))
        fields = self.smoothed(torch.from_numpy(amplitude * sines)[None, None])
        none = torch.empty(1, 0, *shape, dtype=torch.float64)
        return State(fields, none, torch.tensor([[dispersion]], dtype=torch.float64))

    def time_step(self, shape: tuple[int, int]) -> float:
        """See SpectralPDE.time_step."""
        return self.config.courant * self.length / shape[1] / self.config.max_elevation

    def stable_step(self, modes: Modes, coefficients_NCHK: Tensor) -> Tensor:
        """See SpectralPDE.stable_step."""
        highest = modes.backward(coefficients_NCHK).abs().amax(dim=(1, 2, 3)).double()
        return self.config.courant * self.length / modes.shape[1] / highest

    def symbol(self, modes: Modes, scalars_NS: Tensor) -> Tensor:
        """See SpectralPDE.symbol: imaginary."""
        return scalars_NS[:, 0, None, None, None] * (modes.ddx * modes.square)

    def nonlinear(self, modes: Modes, static_NCHW: Tensor, scalars_NS: Tensor) -> Callable[[Tensor], Tensor]:
        """See SpectralPDE.nonlinear."""
        mask = torch.complex(modes.mask, torch.zeros_like(modes.mask))
        flux = -0.5 * modes.ddx * modes.mask

        def term(coefficients_NCHK: Tensor) -> Tensor:
            return flux * modes.forward(modes.backward(mask * coefficients_NCHK).square())

        return term

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: dispersion, and the mean elevation that carries everything along x."""
        modes = Modes.of(frames_NTCHW, self.length)
        mean = frames_NTCHW.mean((1, 2, 3, 4))[:, None, None, None, None]
        return self.symbol(modes, scalars_NS)[:, None] - mean * modes.ddx

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """Mass and momentum."""
        elevation = fields_NCHW[:, 0]
        return {"mass": self.integral(elevation), "momentum": self.integral(elevation.square()) / 2}
