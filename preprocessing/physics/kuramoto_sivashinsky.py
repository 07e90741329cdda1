"""The Kuramoto-Sivashinsky equation: a flame front whose cells grow, merge and split without end.

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
from pelagos.preprocessing.physics.symmetry import Symmetries
from pelagos.preprocessing.variables import known_variable


class KuramotoSivashinskyConfig(Config):
    """Spatio-temporal chaos.

    Good values: the defaults, on 64 x 64 points with frames 1 apart after a warm-up of 50, in which the chaos sets in.
    Cells are about 9 units wide; errors grow by a factor of e in some ten units of time. Grids coarser than a point a
    unit hold no waves that decay fast enough, and blow up.

    Attributes:
        length: side of the square.
        amplitude: root mean square of the initial front.
        modes: largest wave number of the initial front along each axis.
        step: longest time step.
    """

    kind: Literal["kuramoto_sivashinsky"] = "kuramoto_sivashinsky"
    length: float = Field(default=60.0, gt=0)
    amplitude: Positive = Range(low=0.5, high=1.5)
    modes: int = Field(default=6, ge=1)
    step: float = Field(default=0.1, gt=0)

    def build(self) -> "KuramotoSivashinsky":
        """The equation."""
        return KuramotoSivashinsky(self)


class KuramotoSivashinsky(SpectralPDE):
    """du/dt + Lap u + Lap^2 u + |grad u|^2 / 2 = 0, without its mean.

    The mean, which acts back on nothing and would drift without bound, stays as it is. On a grid of a single row it
    is the equation of one dimension for a front whose slope obeys ds/dt + s ds/dx + d2s/dx2 + d4s/dx4 = 0.
    """

    kind: ClassVar[str] = "kuramoto_sivashinsky"
    conserved_means = ("front",)
    symmetries = Symmetries(offsets=("front",))

    def __init__(self, config: KuramotoSivashinskyConfig) -> None:
        super().__init__(config.length)
        self.config = config
        self.variables = (known_variable("front"),)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        amplitude = draw(self.config.amplitude, rng)
        y, x = self.unit_axes(shape)
        sines = random_functions.unit_rms(random_functions.sines(rng, y, x, self.config.modes, decay=0.0))
        fields = self.smoothed(torch.from_numpy(amplitude * sines)[None, None])
        none = torch.empty(1, 0, *shape, dtype=torch.float64)
        return State(fields, none, torch.empty(1, 0, dtype=torch.float64))

    def time_step(self, shape: tuple[int, int]) -> float:
        """See SpectralPDE.time_step."""
        return self.config.step

    def symbol(self, modes: Modes, scalars_NS: Tensor) -> Tensor:
        """See SpectralPDE.symbol: waves longer than 2 pi grow."""
        return (modes.square - modes.square.square())[None, None]

    def nonlinear(self, modes: Modes, static_NCHW: Tensor, scalars_NS: Tensor) -> Callable[[Tensor], Tensor]:
        """See SpectralPDE.nonlinear."""
        gradient = torch.stack([modes.ddx, modes.ddy]) * modes.mask
        factor = torch.complex(-0.5 * modes.mask * (1 - modes.mean), torch.zeros_like(modes.mask))

        def term(coefficients_NCHK: Tensor) -> Tensor:
            slopes = modes.backward(gradient * coefficients_NCHK)
            return factor * modes.forward(slopes.square().sum(1, keepdim=True))

        return term

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: slopes have no mean, so the linear part is all."""
        symbol = self.symbol(Modes.of(frames_NTCHW, self.length), scalars_NS)
        return torch.complex(symbol, torch.zeros_like(symbol))[:, None]

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """The front's mean."""
        return {"front": self.integral(fields_NCHW[:, 0])}
