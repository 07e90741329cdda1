"""The Euler equations of a compressible ideal gas in the plane.

Shapes: N trajectories, C = 4 fields (density, velocities along x and y, pressure), S scalars, H rows,
W columns.
"""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.godunov import advance, conservative, primitive
from pelagos.preprocessing.physics.initial_gas import GaussianBlobs, InitialGas, KelvinHelmholtz, Riemann
from pelagos.preprocessing.physics.pde import PDE, State
from pelagos.preprocessing.physics.spectral import Modes
from pelagos.preprocessing.physics.symmetry import VELOCITIES, Scaling, Symmetries
from pelagos.preprocessing.variables import known_variable


class EulerConfig(Config):
    """Compressible gas flow.

    Good values: the defaults, on 64 x 64 cells with frames 0.02 apart; sound then crosses about two cells
    between frames. Shocks and contacts are a few cells thick on any grid.

    Attributes:
        length: side of the square.
        gamma: ratio of the specific heats.
        initial: kinds of initial state, drawn with equal chances.
        courant: cells that the fastest wave crosses in a step, added over both axes; stable up to 1.
    """

    kind: Literal["euler"] = "euler"
    length: float = Field(default=1.0, gt=0)
    gamma: float = Field(default=1.4, gt=1)
    initial: tuple[InitialGas, ...] = Field(
        default=(Riemann(), KelvinHelmholtz(), GaussianBlobs()), min_length=1
    )
    courant: float = Field(default=0.8, gt=0, le=1)

    def build(self) -> "Euler":
        """The equation."""
        return Euler(self)


class Euler(PDE):
    """d(rho)/dt + div(rho u) = 0,  d(rho u)/dt + div(rho u u) + grad p = 0,  dE/dt + div((E + p) u) = 0.

    E = p / (gamma - 1) + rho |u|^2 / 2. Finite volumes, of second order where the flow is smooth (see
    godunov.py); values are means over cells. Mass, momentum and energy are conserved to rounding.
    """

    kind: ClassVar[str] = "euler"
    first_point: ClassVar[float] = 0.5
    conserved_means = ("density",)
    symmetries = Symmetries(
        galilean=VELOCITIES,
        scalings=(
            Scaling({"density": 1, "pressure": 1}),
            Scaling({"velocity_x": 1, "velocity_y": 1, "pressure": 2}, time=-1),
        ),
    )

    def __init__(self, config: EulerConfig) -> None:
        super().__init__(config.length)
        self.config = config
        names = ("density", "velocity_x", "velocity_y", "pressure")
        self.variables = tuple(known_variable(name) for name in names)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        kind = self.config.initial[rng.integers(len(self.config.initial))]
        fields = torch.from_numpy(kind.state(rng, *self.unit_axes(shape)))[None]
        none = torch.empty(1, 0, *shape, dtype=torch.float64)
        return State(fields, none, torch.empty(1, 0, dtype=torch.float64))

    def propagate(
        self,
        fields_NCHW: Tensor,
        static_NCHW: Tensor,
        scalars_NS: Tensor,
        duration: float,
        dt: float | None = None,
    ) -> Tensor:
        """See PDE.propagate; `dt` can only shorten the steps that the Courant number allows."""
        assert duration > 0, duration
        gamma = self.config.gamma
        h, w = fields_NCHW.shape[-2:]
        spacing = (self.length / h, self.length / w)
        # Trajectories last: see godunov.py for why.
        q = conservative(fields_NCHW.permute(1, 2, 3, 0).contiguous(), gamma)
        q = advance(q, gamma, spacing, duration, self.config.courant, dt or math.inf)
        return primitive(q, gamma).permute(3, 0, 1, 2)

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: sound and what the mean flow carries."""
        modes = Modes.of(frames_NTCHW, self.length)
        density, u, v, pressure = frames_NTCHW.mean((1, 3, 4))[..., None, None].unbind(1)
        rates = modes.ddx.new_zeros(len(frames_NTCHW), 4, 4, *modes.square.shape)
        rates[:, range(4), range(4)] = -(u * modes.ddx + v * modes.ddy)[:, None]
        for velocity, derivative in ((1, modes.ddx), (2, modes.ddy)):
            rates[:, 0, velocity] = -density * derivative
            rates[:, velocity, 3] = -derivative / density
            rates[:, 3, velocity] = -self.config.gamma * pressure * derivative
        return rates

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """Mass, momentum and energy."""
        q = conservative(fields_NCHW.transpose(0, 1), self.config.gamma)
        names = ("mass", "momentum_x", "momentum_y", "energy")
        return {name: self.integral(component) for name, component in zip(names, q, strict=True)}

    def coarsen(self, fields_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen; what is averaged are the conserved fields, whose integrals stay the same.

        Raises:
            DataError: a coarse cell is not made of whole fine ones.
        """
        gamma = self.config.gamma
        q = conservative(fields_NCHW.transpose(0, 1), gamma)
        return primitive(block_mean(q, shape), gamma).transpose(0, 1)

    def coarsen_static(self, static_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen_static."""
        return static_NCHW.new_empty(*static_NCHW.shape[:2], *shape)


def block_mean(fields: Tensor, shape: tuple[int, int]) -> Tensor:
    """The means (..., h, w) of blocks of cells.

    Raises:
        DataError: the numbers of cells are not multiples of the new ones.
    """
    (h, w), (old_h, old_w) = shape, fields.shape[-2:]
    if old_h % h or old_w % w:
        raise DataError(f"cannot average {old_h} x {old_w} cells to {h} x {w}: the numbers must be multiples")
    blocks = fields.reshape(*fields.shape[:-2], h, old_h // h, w, old_w // w)
    return blocks.mean(dim=(-3, -1))
