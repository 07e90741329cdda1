"""Incompressible Navier-Stokes equations in the plane: velocity fields, advanced through their vorticity.

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
from pelagos.preprocessing.physics.initial_flow import Gaussians, InitialFlow, RandomFlow, ShearLayer, Sines
from pelagos.preprocessing.physics.parameter import NotNegative, Positive, Range, bounds, draw
from pelagos.preprocessing.physics.pde import State
from pelagos.preprocessing.physics.spectral import Modes, SpectralPDE, paired
from pelagos.preprocessing.physics.symmetry import VELOCITIES, Scaling, Symmetries
from pelagos.preprocessing.physics.vorticity import biot_savart, curl, to_velocity, to_vorticity
from pelagos.preprocessing.variables import known_variable


class FlowConfig(Config):
    """What Navier-Stokes flows have in common, forced or not.

    Good values: the defaults, on 64 x 64 points with frames 0.05 apart. Eddies of speed 0.5 then move
    a few grid points between frames, and viscosity 1e-3 ends the spectrum within the grid.

    Attributes:
        length: side of the square.
        state: what the fields are: the velocity, or the vorticity of a flow without a mean.
        viscosity: kinematic viscosity.
        drag: rate of linear friction.
        speed: root mean square of the initial velocity without its mean.
        mean_speed: speed of the mean flow, whose direction is random.
        initial: kinds of initial flow, drawn with equal chances.
        tracer: whether the flow carries a passive tracer, with values from 0 to 1 at the start.
        diffusivity: diffusivity of the tracer.
        max_speed: sum of |u| and |v| for which the time step is chosen; faster flow takes shorter steps.
        courant: grid spacings that the flow crosses in a step at most, added over both axes; stable up to 1.35.
    """

    length: float = Field(default=1.0, gt=0)
    state: Literal["velocity", "vorticity"] = "velocity"
    viscosity: Positive = Range(low=5e-4, high=2e-3, scale="log")
    drag: NotNegative = 0.0
    speed: Positive = Range(low=0.4, high=0.8)
    mean_speed: NotNegative = 0.0
    initial: tuple[InitialFlow, ...] = Field(
        default=(Sines(), Gaussians(), RandomFlow(), ShearLayer()), min_length=1
    )
    tracer: bool = False
    diffusivity: Positive = 1e-3
    max_speed: float = Field(default=2.0, gt=0)
    courant: float = Field(default=1.3, gt=0, le=1.35)


class NavierStokesConfig(FlowConfig):
    """Decaying incompressible flow; see FlowConfig for the values."""

    kind: Literal["navier_stokes"] = "navier_stokes"

    def build(self) -> "NavierStokes":
        """The equation."""
        return NavierStokes(self)


class NavierStokes(SpectralPDE):
    """du/dt + (u . grad) u = -grad p + nu Lap u - mu u + f,  div u = 0,  and dc/dt + u . grad c = D Lap c.

    The fields are the velocity (u, v), or the vorticity, and, if wanted, the tracer c. Time stepping works on the
    vorticity w = dv/dx - du/dy, whose nonlinear term needs four transforms in the form of Basdevant
    (J. Comput. Phys. 50, 1983):

        dw/dt = (d2/dy2 - d2/dx2)(u v) + d2/dxdy (u^2 - v^2) + nu Lap w - mu w + curl f

    The mean flow is kept in the vorticity's coefficient at k = 0 (see vorticity.py), where only drag and
    the mean force act on it. A divergent part of the given fields is projected away.
    """

    kind: ClassVar[str] = "navier_stokes"

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config.length)
        self.config = config
        self.solenoidal = config.state == "velocity"
        flow = ("velocity_x", "velocity_y") if self.solenoidal else ("vorticity",)
        tracer = ("tracer",) if config.tracer else ()
        self.variables = tuple(known_variable(name) for name in (*flow, *tracer))
        self.scalars = ("viscosity", "drag", "diffusivity") if config.tracer else ("viscosity", "drag")
        # Force and drag act in a frame of rest; a vorticity is taken to have no mean flow.
        at_rest = self.static_variables or bounds(config.drag)[1] > 0
        self.conserved_means = tracer if at_rest and self.solenoidal else (*flow, *tracer)
        forces = {variable.key: 2.0 for variable in self.static_variables}
        self.symmetries = Symmetries(
            galilean={} if at_rest or not self.solenoidal else VELOCITIES,
            negations=(tracer,) if tracer else (),
            offsets=tracer,
            scalings=(
                Scaling(dict.fromkeys((*flow, *self.scalars), 1.0) | forces, time=-1),
                *(Scaling({key: 1.0}) for key in tracer),
            ),
        )

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        config = self.config
        y, x = self.unit_axes(shape)
        scalars = [draw(config.viscosity, rng), draw(config.drag, rng)]
        speed, mean_speed = draw(config.speed, rng), draw(config.mean_speed, rng)
        angle = rng.uniform(0, 2 * np.pi)
        flow = config.initial[rng.integers(len(config.initial))]
        # Smoothed, since what aliases in products would be there from the first step.
        vorticity = self.smoothed(torch.from_numpy(flow.vorticity(rng, y, x))[None])
        velocity = self.velocity(vorticity, torch.zeros(1, 2, dtype=torch.float64))
        # Scaled after the projection onto the grid, so that every grid has the speed asked for.
        velocity = velocity * (speed / velocity.square().sum(1).mean().sqrt())
        mean = torch.tensor([np.cos(angle), np.sin(angle)]) * mean_speed
        fields = (
            velocity + mean[None, :, None, None] if self.solenoidal else self.vorticity(velocity)[:, None]
        )
        if config.tracer:
            scalars.append(draw(config.diffusivity, rng))
            blend = random_functions.spectrum(rng, y, x, peak=2.0, slope=3.0, largest=8)
            tracer = torch.from_numpy((1 + np.tanh(random_functions.unit_rms(blend))) / 2)
            fields = torch.cat([fields, self.smoothed(tracer[None, None])], dim=1)
        return State(fields, self.draw_force(rng, shape), torch.tensor([scalars], dtype=torch.float64))

    def draw_force(self, rng: np.random.Generator, shape: tuple[int, int]) -> Tensor:
        """The static fields (1, Cs, H, W): no force here."""
        return torch.empty(1, 0, *shape, dtype=torch.float64)

    def time_step(self, shape: tuple[int, int]) -> float:
        """See SpectralPDE.time_step."""
        return self.config.courant * self.length / max(shape) / self.config.max_speed

    def stable_step(self, modes: Modes, coefficients_NCHK: Tensor) -> Tensor:
        """See SpectralPDE.stable_step.

        RK4 is stable while the flow turns the phase of no wave by more than sqrt(8) in a step. The shortest waves
        that the flow carries have a wave number of 2 pi / 3 to a spacing along both axes.
        """
        h, w = modes.shape
        u, v = modes.backward(biot_savart(modes) * coefficients_NCHK[:, :1]).abs().unbind(1)
        spacings_N = (u * (w / self.length) + v * (h / self.length)).amax(dim=(-2, -1)).double()
        return self.config.courant / spacings_N

    def vorticity(self, velocity_N2HW: Tensor) -> Tensor:
        """The vorticity dv/dx - du/dy (N, H, W) of a velocity."""
        modes = Modes.of(velocity_N2HW, self.length)
        return modes.backward(to_vorticity(modes, velocity_N2HW) * (1 - modes.mean))

    def velocity(self, vorticity_NHW: Tensor, mean_N2: Tensor) -> Tensor:
        """The divergence-free velocity (N, 2, H, W) that has this vorticity and this mean."""
        modes = Modes.of(vorticity_NHW, self.length)
        fluctuation = to_velocity(modes, modes.forward(vorticity_NHW) * (1 - modes.mean))
        return fluctuation + mean_N2[:, :, None, None]

    def symbol(self, modes: Modes, scalars_NS: Tensor) -> Tensor:
        """See SpectralPDE.symbol."""
        viscosity, drag, *diffusivity = scalars_NS[:, :, None, None].unbind(1)
        rates = [-viscosity * modes.square - drag, *(-value * modes.square for value in diffusivity)]
        return torch.stack(rates, dim=1)

    def encode(self, modes: Modes, fields_NCHW: Tensor) -> Tensor:
        """The coefficients of the vorticity, with the mean flow at k = 0, and of the tracer."""
        coefficients = modes.forward(fields_NCHW)
        if not self.solenoidal:
            # There a vorticity has zero, but for rounding, which is not to drive a flow.
            return torch.cat([coefficients[:, :1] * (1 - modes.mean), coefficients[:, 1:]], dim=1)
        vorticity = (curl(modes) * coefficients[:, :2]).sum(dim=1, keepdim=True)
        return torch.cat([vorticity, coefficients[:, 2:]], dim=1)

    def decode(self, modes: Modes, coefficients_NCHK: Tensor) -> Tensor:
        """The velocity or the vorticity, and the tracer."""
        if not self.solenoidal:
            return modes.backward(
                torch.cat([coefficients_NCHK[:, :1] * (1 - modes.mean), coefficients_NCHK[:, 1:]], dim=1)
            )
        velocity = biot_savart(modes) * coefficients_NCHK[:, :1]
        return modes.backward(torch.cat([velocity, coefficients_NCHK[:, 1:]], dim=1))

    def force(self, modes: Modes, static_NCHW: Tensor) -> Tensor:
        """The force's coefficients (N or 1, H, K) in the vorticity equation: none here."""
        return torch.zeros_like(modes.ddx)[None]

    def nonlinear(self, modes: Modes, static_NCHW: Tensor, scalars_NS: Tensor) -> Callable[[Tensor], Tensor]:
        """See SpectralPDE.nonlinear."""
        # All factors carry the mask: one before the products keeps aliases out, one after them removes the rest.
        velocity_factor = biot_savart(modes) * modes.mask
        shear = paired((modes.kx**2 - modes.ky**2) * modes.mask)
        strain = paired(-modes.kx * modes.ky * modes.mask)
        divergence = -torch.stack([modes.ddx, modes.ddy]) * modes.mask
        mask = modes.mask.to(divergence.dtype)
        force = self.force(modes, static_NCHW)

        def vorticity_rate(velocity_N2HW: Tensor) -> Tensor:
            u, v = velocity_N2HW.unbind(1)
            # u^2 - v^2 as a product loses fewer digits than the difference of squares.
            stress = modes.forward(torch.stack([u * v, (u + v) * (u - v)], dim=1))
            uv, difference = torch.view_as_real(stress).unbind(1)
            return torch.view_as_complex(torch.addcmul(uv * shear, difference, strain)) + force

        def tracer_rate(velocity_N2HW: Tensor, tracer_NHK: Tensor) -> Tensor:
            tracer = modes.backward(mask * tracer_NHK)
            return (divergence * modes.forward(velocity_N2HW * tracer[:, None])).sum(dim=1)

        def term(coefficients_NCHK: Tensor) -> Tensor:
            vorticity, *tracer = coefficients_NCHK.unbind(1)
            velocity = modes.backward(velocity_factor * vorticity[:, None])
            rates = [vorticity_rate(velocity), *(tracer_rate(velocity, values) for values in tracer)]
            return torch.stack(rates, dim=1)

        return term

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: viscosity and drag, or the tracer's diffusion, and the mean flow that carries everything."""
        modes = Modes.of(frames_NTCHW, self.length)
        decay, *of_tracer = self.symbol(modes, scalars_NS).unbind(1)
        carried: Tensor = torch.zeros_like(modes.ddx)[None]
        if self.solenoidal:
            u, v = frames_NTCHW[:, :, :2].mean((1, 3, 4))[..., None, None].unbind(1)
            carried = -(u * modes.ddx + v * modes.ddy)
        if not of_tracer:
            return (carried + decay)[:, None, None]
        flow = [decay] * (len(self.variables) - 1)
        rates = torch.stack([carried + rate for rate in (*flow, *of_tracer)], -1)
        return torch.diag_embed(rates).permute(0, 3, 4, 1, 2)

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """Momentum, where there is neither drag nor a mean force, and the tracer's mass."""
        integrals = {"tracer": self.integral(fields_NCHW[:, -1])} if self.config.tracer else {}
        if self.config.drag != 0 or not self.solenoidal:
            return integrals
        momentum = ("momentum_x", "momentum_y")
        return integrals | {name: self.integral(fields_NCHW[:, i]) for i, name in enumerate(momentum)}
