"""The Allen-Cahn equation: two phases whose interfaces move by their curvature.

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


class AllenCahnConfig(Config):
    """Phase separation by Allen-Cahn.

    Good values: the defaults, on 64 x 64 points with frames 0.05 apart. Interfaces are then
    sqrt(2 diffusivity / rate), about 4 grid points, wide and drops of radius 0.15 vanish within a
    trajectory of 20 frames.

    Attributes:
        length: side of the square.
        diffusivity: diffusivity D.
        rate: rate r of the reaction.
        modes: largest wave number of the initial phase along each axis.
        step: longest time step.
    """

    kind: Literal["allen_cahn"] = "allen_cahn"
    length: float = Field(default=1.0, gt=0)
    diffusivity: Positive = Range(low=0.005, high=0.015)
    rate: Positive = Range(low=5.0, high=10.0)
    modes: int = Field(default=6, ge=1)
    step: float = Field(default=0.025, gt=0)

    def build(self) -> "AllenCahn":
        """The equation."""
        return AllenCahn(self)


class AllenCahn(SpectralPDE):
    """du/dt = D Lap u + r (u - u^3), with the pure phases u = -1 and u = 1."""

    kind: ClassVar[str] = "allen_cahn"
    scalars = ("diffusivity", "rate")
    symmetries = Symmetries(
        negations=(("phase",),), scalings=(Scaling({"diffusivity": 1, "rate": 1}, time=-1),)
    )

    def __init__(self, config: AllenCahnConfig) -> None:
        super().__init__(config.length)
        self.config = config
        self.variables = (known_variable("phase"),)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        scalars = [draw(self.config.diffusivity, rng), draw(self.config.rate, rng)]
        y, x = self.unit_axes(shape)
        sines = random_functions.unit_rms(random_functions.sines(rng, y, x, self.config.modes, decay=1.0))
        # Between the two pure phases from the start, so that no fast relaxation comes first.
        phase = torch.from_numpy(np.tanh(sines))[None, None]
        return State(
            self.smoothed(phase),
            torch.empty(1, 0, *shape, dtype=torch.float64),
            torch.tensor([scalars], dtype=torch.float64),
        )

    def time_step(self, shape: tuple[int, int]) -> float:
        """See SpectralPDE.time_step."""
        return self.config.step

    def symbol(self, modes: Modes, scalars_NS: Tensor) -> Tensor:
        """See SpectralPDE.symbol."""
        diffusivity, rate = scalars_NS[:, :, None, None].unbind(1)
        # The linear growth r u is stepped exactly together with diffusion; only -r u^3 is left.
        return (rate - diffusivity * modes.square)[:, None]

    def nonlinear(self, modes: Modes, static_NCHW: Tensor, scalars_NS: Tensor) -> Callable[[Tensor], Tensor]:
        """See SpectralPDE.nonlinear."""
        mask = torch.complex(modes.mask, torch.zeros_like(modes.mask))
        rate = scalars_NS[:, 1, None, None, None]

        def term(coefficients_NCHK: Tensor) -> Tensor:
            phase = modes.backward(mask * coefficients_NCHK)
            return -mask * modes.forward(rate * phase**3)

        return term

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: the reaction's slope r (1 - 3 u^2) by its mean."""
        modes = Modes.of(frames_NTCHW, self.length)
        diffusivity, rate = scalars_NS[:, :, None, None].unbind(1)
        slope = 1 - 3 * frames_NTCHW.square().mean((1, 2, 3, 4))[:, None, None]
        rates = rate * slope - diffusivity * modes.square
        return torch.complex(rates, torch.zeros_like(rates))[:, None, None]
