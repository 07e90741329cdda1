"""Burgers' equation: a velocity that carries itself into fronts and is smoothed by viscosity.

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
from pelagos.preprocessing.physics.symmetry import VELOCITIES, Scaling, Symmetries
from pelagos.preprocessing.variables import known_variable


class BurgersConfig(Config):
    """Burgers flow.

    Good values: the defaults, on 64 x 64 points with frames 0.05 apart. Fronts form within 0.2 units of time and are
    then about 4 viscosity / speed, two or more grid points, wide.

    Attributes:
        length: side of the square.
        components: 2 for a velocity in the plane, 1 for the velocity along x alone; the latter is the equation
            of one dimension on a grid of a single row.
        viscosity: kinematic viscosity.
        speed: root mean square of the initial velocity.
        modes: largest wave number of the initial velocity along each axis.
        max_speed: sum of |u| and |v| for which the time step is chosen; faster flow takes shorter steps.
        courant: grid spacings that the flow crosses in a step at most, added over both axes; stable up to 1.35.
    """

    kind: Literal["burgers"] = "burgers"
    length: float = Field(default=1.0, gt=0)
    components: Literal[1, 2] = 2
    viscosity: Positive = Range(low=5e-3, high=2e-2, scale="log")
    speed: Positive = Range(low=0.4, high=0.8)
    modes: int = Field(default=4, ge=1)
    max_speed: float = Field(default=2.0, gt=0)
    courant: float = Field(default=1.2, gt=0, le=1.35)

    def build(self) -> "Burgers":
        """The equation."""
        return Burgers(self)


class Burgers(SpectralPDE):
    """du/dt + (u . grad) u = nu Lap u for the velocity (u, v), or du/dt + u du/dx = nu Lap u for one component."""

    kind: ClassVar[str] = "burgers"
    scalars = ("viscosity",)

    def __init__(self, config: BurgersConfig) -> None:
        super().__init__(config.length)
        self.config = config
        names = ("velocity_x", "velocity_y")[: config.components]
        self.variables = tuple(known_variable(name) for name in names)
        both = config.components == 2
        self.conserved_means = () if both else names
        self.symmetries = Symmetries(
            transposition=both,
            galilean=VELOCITIES if both else {"x": "velocity_x"},
            scalings=(Scaling(dict.fromkeys((*names, "viscosity"), 1.0), time=-1),),
        )

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        viscosity, speed = draw(self.config.viscosity, rng), draw(self.config.speed, rng)
        y, x = self.unit_axes(shape)
        sines = [
            random_functions.sines(rng, y, x, self.config.modes, decay=2.0)
            for _ in range(len(self.variables))
        ]
        fields = self.smoothed(torch.from_numpy(np.stack(sines))[None])
        fields = fields * (speed / fields.square().sum(1).mean().sqrt())
        none = torch.empty(1, 0, *shape, dtype=torch.float64)
        return State(fields, none, torch.tensor([[viscosity]], dtype=torch.float64))

    def time_step(self, shape: tuple[int, int]) -> float:
        """See SpectralPDE.time_step."""
        return self.config.courant * self.length / max(shape) / self.config.max_speed

    def stable_step(self, modes: Modes, coefficients_NCHK: Tensor) -> Tensor:
        """See SpectralPDE.stable_step."""
        h, w = modes.shape
        u, *v = modes.backward(coefficients_NCHK).abs().unbind(1)
        spacings = u * (w / self.length) + sum(one * (h / self.length) for one in v)
        return self.config.courant / spacings.amax(dim=(-2, -1)).double()

    def symbol(self, modes: Modes, scalars_NS: Tensor) -> Tensor:
        """See SpectralPDE.symbol."""
        rate = -scalars_NS[:, 0, None, None, None] * modes.square
        return rate.expand(-1, len(self.variables), -1, -1)

    def nonlinear(self, modes: Modes, static_NCHW: Tensor, scalars_NS: Tensor) -> Callable[[Tensor], Tensor]:
        """See SpectralPDE.nonlinear."""
        derivatives = (modes.ddx, modes.ddy)[: len(self.variables)]
        factors = modes.mask * torch.stack([torch.ones_like(modes.ddx), *derivatives])
        mask = torch.complex(modes.mask, torch.zeros_like(modes.mask))

        def term(coefficients_NCHK: Tensor) -> Tensor:
            # Of each component the values and the derivatives along the axes.
            values, *slopes = modes.backward(factors[:, None, None] * coefficients_NCHK)
            carried = sum(slope * values[:, i, None] for i, slope in enumerate(slopes))
            assert isinstance(carried, Tensor)
            return -mask * modes.forward(carried)

        return term

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: viscosity, and the mean flow that carries everything."""
        modes = Modes.of(frames_NTCHW, self.length)
        mean = frames_NTCHW.mean((1, 3, 4))[..., None, None]
        rate = -scalars_NS[:, 0, None, None] * modes.square - modes.ddx * mean[:, 0]
        if len(self.variables) == 2:
            rate = rate - modes.ddy * mean[:, 1]
        return rate[:, None, None]

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """Momentum, of a single component: in the plane the flow's divergence makes more of it."""
        return {f"mean_{key}": self.integral(fields_NCHW[:, 0]) for key in self.conserved_means}
