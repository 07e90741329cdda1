"""The Gray-Scott model: two reacting and diffusing species that form spots, stripes and waves.

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


class Regime(Config):
    """Feed and kill rates that lead to one kind of pattern.

    Attributes:
        feed: rate F at which the inhibitor is replenished and both species are washed out.
        kill: rate k at which the activator decays in addition.
    """

    feed: Positive
    kill: Positive


def _around(feed: float, kill: float) -> Regime:
    width = 0.01  # relative; patterns of neighbouring kinds are no further than a few per cent apart
    return Regime(
        feed=Range(low=feed * (1 - width), high=feed * (1 + width)),
        kill=Range(low=kill * (1 - width), high=kill * (1 + width)),
    )


RegimeName = Literal["gliders", "maze", "spirals", "spots", "worms"]

REGIMES: dict[RegimeName, Regime] = {
    "gliders": _around(0.014, 0.054),
    "maze": _around(0.029, 0.057),
    "spirals": _around(0.018, 0.051),
    "spots": _around(0.030, 0.062),
    "worms": _around(0.058, 0.065),
}
"""Kinds of pattern by name, after Pearson (Science 261, 1993) and Munafo's map of the parameter plane."""


class GrayScottConfig(Config):
    """Gray-Scott patterns.

    Good values: the defaults, on 64 x 64 points with frames 10 apart after a warm-up of 120, in which the
    first spots become rings. The features of patterns are then about six grid points wide. `worms` develop too
    slowly to be among the defaults.

    Attributes:
        length: side of the square.
        diffusivity_activator: diffusivity of the species that consumes the other.
        diffusivity_inhibitor: diffusivity of the species that is fed.
        regimes: names of REGIMES or feed and kill rates, drawn with equal chances.
        blobs: number of spots of activator at the start.
        width: standard deviation of a spot, in sides of the square.
        step: longest time step.
    """

    kind: Literal["gray_scott"] = "gray_scott"
    length: float = Field(default=1.0, gt=0)
    diffusivity_activator: Positive = 2e-5
    diffusivity_inhibitor: Positive = 4e-5
    regimes: tuple[RegimeName | Regime, ...] = Field(
        default=("gliders", "maze", "spirals", "spots"), min_length=1
    )
    blobs: int = Field(default=12, ge=1)
    width: Range = Range(low=0.03, high=0.06)
    step: float = Field(default=4.0, gt=0)

    def build(self) -> "GrayScott":
        """The equation."""
        return GrayScott(self)


class GrayScott(SpectralPDE):
    """da/dt = Da Lap a + a^2 b - (F + k) a,   db/dt = Db Lap b - a^2 b + F (1 - b).

    The activator a is the species usually called V (or B), the inhibitor b, which it consumes, the one
    called U (or A). Without activator, a = 0 and b = 1 is steady.
    """

    kind: ClassVar[str] = "gray_scott"
    scalars = ("feed", "kill", "diffusivity_activator", "diffusivity_inhibitor")
    # The reaction's rate of 1 and the inhibitor's supply of 1 fix time and amplitudes.
    symmetries = Symmetries()

    def __init__(self, config: GrayScottConfig) -> None:
        super().__init__(config.length)
        self.config = config
        self.variables = (known_variable("activator"), known_variable("inhibitor"))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """See PDE.draw."""
        config = self.config
        choice = config.regimes[rng.integers(len(config.regimes))]
        regime = choice if isinstance(choice, Regime) else REGIMES[choice]
        parameters = (regime.feed, regime.kill, config.diffusivity_activator, config.diffusivity_inhibitor)
        scalars = [draw(parameter, rng) for parameter in parameters]
        y, x = self.unit_axes(shape)
        width = (config.width.low, config.width.high)
        blobs = random_functions.blobs(rng, y, x, config.blobs, width, signed=False)
        activator = 0.4 * torch.from_numpy(np.tanh(blobs))
        # Spots in which the inhibitor is partly used up: without it the activator would just die away.
        fields = torch.stack([activator, 1 - 1.5 * activator])[None]
        return State(
            self.smoothed(fields),
            torch.empty(1, 0, *shape, dtype=torch.float64),
            torch.tensor([scalars], dtype=torch.float64),
        )

    def time_step(self, shape: tuple[int, int]) -> float:
        """See SpectralPDE.time_step."""
        return self.config.step

    def symbol(self, modes: Modes, scalars_NS: Tensor) -> Tensor:
        """See SpectralPDE.symbol."""
        feed, kill, of_activator, of_inhibitor = scalars_NS[:, :, None, None].unbind(1)
        # Decay and diffusion are stepped exactly, so that a step has only the reaction to resolve.
        square = modes.square
        return torch.stack([-of_activator * square - feed - kill, -of_inhibitor * square - feed], dim=1)

    def nonlinear(self, modes: Modes, static_NCHW: Tensor, scalars_NS: Tensor) -> Callable[[Tensor], Tensor]:
        """See SpectralPDE.nonlinear."""
        # The constant feed F is a source of the mean of b alone; F b and (F + k) a are in the symbol.
        feed = scalars_NS[:, 0, None, None] * modes.mean
        supply = torch.stack([torch.zeros_like(feed), feed], dim=1)
        mask = torch.complex(modes.mask, torch.zeros_like(modes.mask))
        sign = torch.stack([mask, -mask])

        def term(coefficients_NCHK: Tensor) -> Tensor:
            # The mask of two thirds keeps products of two fields free of aliases; of three a few short waves have some.
            activator, inhibitor = modes.backward(mask * coefficients_NCHK).unbind(1)
            # What the inhibitor loses the activator gains, so one transform serves both.
            reaction = modes.forward(activator * activator * inhibitor)
            return sign * reaction[:, None] + supply

        return term

    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """See PDE.tangent: the slopes 2 a b and a^2 of the reaction by their means."""
        modes = Modes.of(frames_NTCHW, self.length)
        feed, kill, of_activator, of_inhibitor = scalars_NS[:, :, None, None].unbind(1)
        activator, inhibitor = frames_NTCHW.unbind(2)
        with_activator = 2 * (activator * inhibitor).mean((1, 2, 3))[:, None, None]
        with_inhibitor = activator.square().mean((1, 2, 3))[:, None, None]
        nothing = torch.zeros_like(modes.square)
        rows = (
            (with_activator - feed - kill - of_activator * modes.square, with_inhibitor + nothing),
            (-with_activator + nothing, -with_inhibitor - feed - of_inhibitor * modes.square),
        )
        rates = torch.stack([torch.stack(torch.broadcast_tensors(*row), 1) for row in rows], 1)
        return torch.complex(rates, torch.zeros_like(rates))
