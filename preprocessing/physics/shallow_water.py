"""The shallow-water equations on the rotating sphere: the simplest model that has the weather's waves and jets.

Shapes: N trajectories, C = 3 fields, H latitudes, W longitudes, L degrees and orders.
"""

import math
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.pde import PDE, State
from pelagos.preprocessing.physics.sphere_start import RandomWinds, SphereStart
from pelagos.preprocessing.physics.spherical_modes import SphericalModes, cached_modes, truncated
from pelagos.preprocessing.physics.symmetry import Symmetries
from pelagos.preprocessing.variables import Variable, known_variable

HOUR = 3600.0


class ShallowWaterConfig(Config):
    """Shallow water on a sphere of the Earth's size and rotation; times are in hours.

    Good values: the defaults, on 64 x 128 points with frames 3 hours apart; the grid's rows are Gaussian latitudes, and
    fields have a third as many degrees as there are rows.

    Attributes:
        start: the initial states: `random` flows, or the jet of `galewsky`.
        depth: mean depth of the fluid [m].
        radius: of the sphere [m].
        rotation: rate of its rotation [s-1].
        gravity: [m s-2].
        damping: time in which the smallest waves lose all but 1/e of their vorticity and divergence [h]; waves of half
            their degree take 256 times as long.
        courant: time step in units of that in which the fastest wave passes the shortest; stable up to 2.
    """

    kind: Literal["shallow_water"] = "shallow_water"
    start: SphereStart = RandomWinds()
    depth: float = Field(default=1e4, gt=0)
    radius: float = Field(default=6.37122e6, gt=0)
    rotation: float = Field(default=7.292e-5, ge=0)
    gravity: float = Field(default=9.80616, gt=0)
    damping: float = Field(default=2.0, gt=0)
    courant: float = Field(default=0.8, gt=0, le=2)

    def build(self) -> "ShallowWater":
        """The equation."""
        return ShallowWater(self)


class ShallowWater(PDE):
    """d(zeta)/dt = -div((zeta + f) v), d(div)/dt = curl((zeta + f) v) - Lap(g h + v^2 / 2), dh/dt = -div(h v).

    A spectral transform method with vorticity and divergence (Hack & Jakob, NCAR/TN-343, 1992), stepped by classical
    Runge-Kutta; a hyperdiffusion of the eighth order, exact in time, keeps the smallest waves of vorticity and
    divergence from growing. The mean of the height is conserved to rounding.
    """

    kind: ClassVar[str] = "shallow_water"
    time_units: ClassVar[str] = "h"
    # A mirror at the equator turns the Earth's rotation round and all vorticity with it; one at a meridian does not.
    symmetries = Symmetries(reflections=("y",), transposition=False)

    def __init__(self, config: ShallowWaterConfig) -> None:
        super().__init__(2 * math.pi * config.radius)
        self.config = config
        self.variables = (
            Variable(name="height", units="m", long_name="depth of the fluid"),
            *(
                known_variable(f"velocity_{axis}").model_copy(
                    update={"units": "m s-1", "long_name": f"{way} wind"}
                )
                for axis, way in (("x", "eastward"), ("y", "northward"))
            ),
        )

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        config = self.config
        degrees = config.start.degrees()
        # On a grid of its own, fine enough for products, so that the state is the same on every grid.
        size = (2 * degrees, 4 * degrees)
        fine = cached_modes(size, config.radius, torch.float64, torch.device("cpu"), degrees)
        vorticity, hump = config.start.draw(rng, fine)
        coefficients = torch.stack([vorticity, fine.forward(self._balanced(fine, vorticity) + hump)])
        modes = SphericalModes.of(torch.empty(*shape, dtype=torch.float64), config.radius)
        vorticity, height = truncated(coefficients, modes.degrees)
        wind = modes.wind(vorticity, torch.zeros_like(vorticity))
        fields = torch.cat([modes.backward(height)[None], wind])[None]
        return State(fields, fields.new_empty(1, 0, *shape), fields.new_empty(1, 0))

    def _balanced(self, modes: SphericalModes, vorticity: Tensor) -> Tensor:
        """(H, W) the height [m] whose gradient holds a rotational flow: the divergence does not begin to grow."""
        wind = modes.wind(vorticity, torch.zeros_like(vorticity))
        absolute = modes.backward(vorticity) + self._coriolis(modes)
        turning, _ = modes.curl_and_divergence(wind * absolute)
        potential = modes.inverse * turning - modes.forward(wind.square().sum(-3) / 2)
        height = modes.backward(potential) / self.config.gravity
        return height - modes.mean(height) + self.config.depth

    def _coriolis(self, modes: SphericalModes) -> Tensor:
        """(H, 1) twice the rotation about the vertical [s-1]."""
        values = 2 * self.config.rotation * np.sin(modes.latitude)
        return torch.from_numpy(values).to(modes.area)[:, None]

    def propagate(
        self,
        fields_NCHW: Tensor,
        static_NCHW: Tensor,
        scalars_NS: Tensor,
        duration: float,
        dt: float | None = None,
    ) -> Tensor:
        """See PDE.propagate; times are in hours."""
        assert duration > 0, duration
        modes = SphericalModes.of(fields_NCHW, self.config.radius)
        num_steps = max(1, math.ceil(duration / (dt or self._longest_step(modes, fields_NCHW)) - 1e-9))
        seconds = duration * HOUR / num_steps
        coriolis = self._coriolis(modes)
        height_NLL = modes.forward(fields_NCHW[:, 0])
        state = torch.stack([height_NLL, *modes.curl_and_divergence(fields_NCHW[:, 1:])])
        decay = self._decay(modes, seconds)
        for _ in range(num_steps):
            one = self._rate(modes, coriolis, state)
            two = self._rate(modes, coriolis, state + seconds / 2 * one)
            three = self._rate(modes, coriolis, state + seconds / 2 * two)
            four = self._rate(modes, coriolis, state + seconds * three)
            state = (state + seconds / 6 * (one + 2 * two + 2 * three + four)) * decay
        return torch.cat([modes.backward(state[0])[:, None], modes.wind(state[1], state[2])], 1)

    def _rate(self, modes: SphericalModes, coriolis: Tensor, state_3NLL: Tensor) -> Tensor:
        """(3, N, L, L) the rates of height, vorticity and divergence."""
        height, vorticity = modes.backward(state_3NLL[:2])
        wind = modes.wind(state_3NLL[1], state_3NLL[2])
        fluxes = torch.stack([wind * (vorticity + coriolis)[:, None], wind * height[:, None]])
        curl, divergence = modes.curl_and_divergence(fluxes)
        head = modes.forward(self.config.gravity * height + wind.square().sum(1) / 2)
        return torch.stack([-divergence[1], -divergence[0], curl[0] - modes.eigenvalues * head])

    def _decay(self, modes: SphericalModes, seconds: float) -> Tensor:
        """(3, 1, L, 1) what is left of height, vorticity and divergence after a step."""
        relative = (modes.eigenvalues / modes.eigenvalues[-1]) ** 4
        left = torch.exp(-seconds / (self.config.damping * HOUR) * relative)
        return torch.stack([torch.ones_like(left), left, left])[:, None]

    def _longest_step(self, modes: SphericalModes, fields_NCHW: Tensor) -> float:
        """[h] for which the scheme is stable and accurate."""
        fastest = math.sqrt(self.config.gravity * float(fields_NCHW[:, 0].max().clamp(min=1.0)))
        wind = float(fields_NCHW[:, 1:].square().sum(1).max().sqrt())
        if not math.isfinite(fastest + wind):
            return HOUR  # the simulation says that it is not finite
        return self.config.courant * self.config.radius / ((fastest + wind) * modes.degrees * HOUR)

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: modes of a square, of which a sphere has none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"equation {self.kind}: refinement works in the modes of a periodic square, not on the sphere"
        )

    def coarsen(self, fields_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen: the harmonics that the coarser grid has."""
        if tuple(fields_NCHW.shape[-2:]) == shape:
            return fields_NCHW
        fine = SphericalModes.of(fields_NCHW, self.config.radius)
        coarse = SphericalModes.of(fields_NCHW.new_empty(*shape), self.config.radius)
        parts = fine.forward(fields_NCHW[:, 0]), *fine.curl_and_divergence(fields_NCHW[:, 1:])
        height, vorticity, divergence = (truncated(part, coarse.degrees) for part in parts)
        return torch.cat([coarse.backward(height)[:, None], coarse.wind(vorticity, divergence)], 1)

    def coarsen_static(self, static_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """See PDE.coarsen_static; there are none."""
        return static_NCHW.new_empty(*static_NCHW.shape[:2], *shape)

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """Means over the sphere: the height [m], and the energy [m3 s-2], which damping alone lowers."""
        modes = SphericalModes.of(fields_NCHW, self.config.radius)
        height, wind = fields_NCHW[:, 0], fields_NCHW[:, 1:]
        energy = height * (wind.square().sum(1) + self.config.gravity * height) / 2
        return {"height": modes.mean(height), "energy": modes.mean(energy)}

    def grid(self, shape: tuple[int, int]) -> Grid:
        """See PDE.grid: Gaussian latitudes from north to south, longitudes from 0 eastwards."""
        modes = SphericalModes.of(torch.empty(*shape, dtype=torch.float64), self.config.radius)
        y, x = np.rad2deg(modes.latitude), np.rad2deg(modes.longitude)
        return Grid("latlon", y, x, ("pole", "pole"), ("periodic", "periodic"), "degrees")
