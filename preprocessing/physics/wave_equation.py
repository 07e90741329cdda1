"""The wave equation in an inhomogeneous medium.

Shapes: N trajectories, C fields, S scalars, H rows, W columns.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.physics import random_functions
from pelagos.preprocessing.physics.etdrk import StepCoefficients, etdrk4_step
from pelagos.preprocessing.physics.parameter import Positive, Range, bounds
from pelagos.preprocessing.physics.pde import PDE, State, static_variable
from pelagos.preprocessing.physics.spectral import Modes, count_steps, truncate
from pelagos.preprocessing.physics.symmetry import Scaling, Symmetries
from pelagos.preprocessing.variables import Variable, known_variable


class WaveConfig(Config):
    """Waves through smoothly varying media.

    Good values: the defaults, on 64 x 64 points with frames 0.015 apart.

    Attributes:
        length: side of the square.
        wave_speed: range of the speed within one square.
        medium_modes: largest wave number of the speed along each axis.
        blobs: number of Gaussian humps at the start.
        width: standard deviation of a hump, in sides of the square.
        courant: time step in units of grid spacing / largest speed; stable up to 0.63.
    """

    kind: Literal["wave"] = "wave"
    length: float = Field(default=1.0, gt=0)
    wave_speed: Positive = Range(low=0.5, high=1.5)
    medium_modes: int = Field(default=3, ge=1)
    blobs: int = Field(default=6, ge=1)
    width: Range = Range(low=0.06, high=0.12)
    courant: float = Field(default=0.5, gt=0, le=0.63)

    def build(self) -> "Wave":
        """The equation."""
        return Wave(self)


class Wave(PDE):
    """d2u/dt2 = c(x, y)^2 Lap u as a first-order system of the displacement u and its rate.

    The Laplacian is spectral at the grid's points; time stepping is classical RK4 (ETDRK4 without a
    linear part). c^2 Lap is similar to the symmetric c Lap c, so the discrete system is stable for any
    c without dealiasing and conserves an energy of its own.
    """

    kind: ClassVar[str] = "wave"
    symmetries = Symmetries(
        negations=(("displacement", "displacement_rate"),),
        offsets=("displacement",),
        scalings=(
            Scaling({"displacement": 1, "displacement_rate": 1}),
            Scaling({"displacement_rate": 1, "wave_speed": 1}, time=-1),
        ),
    )

    def __init__(self, config: WaveConfig) -> None:
        super().__init__(config.length)
        self.config = config
        self.variables = (
            known_variable("displacement"),
            Variable(name="displacement_rate", long_name="rate of change of the displacement"),
        )
        self.static_variables = (static_variable("wave_speed"),)

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        config = self.config
        y, x = self.unit_axes(shape)
        sines = random_functions.sines(rng, y, x, config.medium_modes, decay=1.0)
        medium = (1 + np.tanh(random_functions.unit_rms(sines))) / 2
        low, high = bounds(config.wave_speed)
        width = (config.width.low, config.width.high)
        humps = random_functions.blobs(rng, y, x, config.blobs, width, signed=True)
        # Without a mean, which the Laplacian does not see and which would stay for ever.
        displacement = torch.from_numpy(humps - humps.mean())
        return State(
            torch.stack([displacement, torch.zeros_like(displacement)])[None],
            torch.from_numpy(low + (high - low) * medium)[None, None],
            torch.empty(1, 0, dtype=torch.float64),
        )

    def propagate(
        self,
        fields_NCHW: Tensor,
        static_NCHW: Tensor,
        scalars_NS: Tensor,
        duration: float,
        dt: float | None = None,
    ) -> Tensor:
        """See PDE.propagate."""
        assert duration > 0, duration
        modes = Modes.of(fields_NCHW, self.length)
        spacing = self.length / max(modes.shape)
        # RK4 needs c |k| dt < sqrt(8); with |k| up to sqrt(2) pi / spacing that is a Courant number of 0.63.
        longest = dt or self.config.courant * spacing / bounds(self.config.wave_speed)[1]
        num_steps = count_steps(duration, longest)
        speed_squared = static_NCHW[:, 0].square()

        def rate(state_NCHW: Tensor) -> Tensor:
            acceleration = speed_squared * laplacian(modes, state_NCHW[:, 0])
            return torch.stack([state_NCHW[:, 1], acceleration], dim=1)

        # With L = 0 the coefficients are those of classical RK4.
        no_linear_part = StepCoefficients.of(fields_NCHW.new_zeros(()), duration / num_steps)
        for _ in range(num_steps):
            fields_NCHW = etdrk4_step(fields_NCHW, rate, no_linear_part)
        return fields_NCHW

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: displacement and rate of a wave in a medium with the mean of c^2."""
        modes = Modes.of(frames_NTCHW, self.length)
        squares = static_NCHW[:, 0].square().mean((1, 2))
        rates = modes.ddx.new_zeros(len(squares), 2, 2, *modes.square.shape)
        rates[:, 0, 1] = 1
        rates[:, 1, 0] = -squares[:, None, None] * modes.square
        return rates

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """The energy (rate^2 / c^2 + |grad u|^2) / 2 and the momentum rate / c^2."""
        u, rate = fields_NCHW.unbind(1)
        weighted = rate / static_NCHW[:, 0].square()
        # By parts the integral of |grad u|^2, with the Nyquist mode too, which first derivatives leave out.
        tension = -u * laplacian(Modes.of(fields_NCHW, self.length), u)
        return {
            "energy": self.integral(rate * weighted + tension) / 2,
            "momentum": self.integral(weighted),
        }

    def coarsen(self, fields_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen."""
        return truncate(fields_NCHW, shape)

    def coarsen_static(self, static_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen_static."""
        return truncate(static_NCHW, shape)


def laplacian(modes: Modes, field_NHW: Tensor) -> Tensor:
    """The spectral Laplacian of a field."""
    return modes.backward(modes.forward(field_NHW) * -modes.square)
