"""Kolmogorov flow: the incompressible Navier-Stokes equations under a steady sinusoidal force."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.preprocessing.physics.navier_stokes import FlowConfig, NavierStokes
from pelagos.preprocessing.physics.parameter import Positive, Range, draw
from pelagos.preprocessing.physics.pde import static_variable
from pelagos.preprocessing.physics.spectral import Modes
from pelagos.preprocessing.physics.vorticity import to_vorticity


class KolmogorovConfig(FlowConfig):
    """Forced incompressible flow; see FlowConfig for what it shares with decaying flow.

    Good values: the defaults. In one unit of time the force then accelerates the flow by about its initial speed;
    sizes, speeds and the interval between frames (0.05) are those of `navier_stokes`.

    Attributes:
        waves: how many waves the force is the sum of, each with draws of its own; one in Kolmogorov flow proper.
        amplitude: amplitude of each wave.
        wave_numbers: wave numbers of the force, in waves a side; drawn with equal chances.
        directions: directions in which the force acts, varying across them; drawn with equal chances.
        max_speed: as in FlowConfig, with room for what the force adds.
    """

    kind: Literal["kolmogorov"] = "kolmogorov"
    waves: int = Field(default=1, gt=0)
    amplitude: Positive = Range(low=0.5, high=2.0)
    wave_numbers: tuple[int, ...] = Field(default=(1, 2, 3, 4), min_length=1)
    directions: tuple[Literal["x", "y"], ...] = Field(default=("x", "y"), min_length=1)
    max_speed: float = Field(default=3.0, gt=0)

    def build(self) -> "Kolmogorov":
        """The equation."""
        return Kolmogorov(self)


class Kolmogorov(NavierStokes):
    """Navier-Stokes with f = A sin(2 pi k y / L + phase) along x, or the same with x and y exchanged, or a sum of such.

    The force is given as static fields, so any other steady force may be passed to the propagator.
    """

    kind: ClassVar[str] = "kolmogorov"
    static_variables = (static_variable("force_x"), static_variable("force_y"))

    def __init__(self, config: KolmogorovConfig) -> None:
        super().__init__(config)
        self.forcing = config

    def draw_force(self, rng: np.random.Generator, shape: tuple[int, int]) -> Tensor:
        """Draw one random force (1, 2, H, W)."""
        force_NCHW = torch.zeros(1, 2, *shape, dtype=torch.float64)
        for _ in range(self.forcing.waves):
            self._add_wave(force_NCHW, rng)
        return force_NCHW

    def _add_wave(self, force_NCHW: Tensor, rng: np.random.Generator) -> None:
        amplitude, phase = draw(self.forcing.amplitude, rng), rng.uniform(0, 2 * np.pi)
        number = self.forcing.wave_numbers[rng.integers(len(self.forcing.wave_numbers))]
        direction = self.forcing.directions[rng.integers(len(self.forcing.directions))]
        y, x = self.unit_axes((force_NCHW.shape[-2], force_NCHW.shape[-1]))
        # A force that varies only across its direction has no divergence, so the pressure takes no part of it.
        across = y[:, None] if direction == "x" else x[None, :]
        wave = torch.from_numpy(amplitude * np.sin(2 * np.pi * number * across + phase))
        force_NCHW[0, "xy".index(direction)] += wave

    def force(self, modes: Modes, static_NCHW: Tensor) -> Tensor:
        """See NavierStokes.force."""
        return to_vorticity(modes, static_NCHW)
