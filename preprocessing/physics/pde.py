"""PDE: what every equation can do: start, advance, say what it conserves, and measure the residual of frames.

Shapes: N trajectories, T frames, C fields, S scalars, H rows, W columns. Static fields and scalars of shape
(1, ...) serve all N trajectories.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.physics.random_functions import Axis
from pelagos.preprocessing.physics.symmetry import Symmetries
from pelagos.preprocessing.variables import Variable, known_variable


@dataclass(frozen=True, eq=False)
class State:
    """What trajectories start from.

    Attributes:
        fields: (N, C, H, W) the equation's `variables` at the initial time.
        static: (N, Cs, H, W) the equation's `static_variables`; Cs is 0 where it has none.
        scalars: (N, S) the equation's `scalars`; float64.
    """

    fields: Tensor
    static: Tensor
    scalars: Tensor


class PDE(ABC):
    """An evolution equation on a periodic square, or on the sphere, with a differentiable propagator.

    Everything is batched over trajectories, each with its own scalars and static fields, and runs
    in the dtype and on the device of the fields. Grids may have any H and W; the spacings are
    length / H and length / W.

    Attributes:
        kind: name of the equation in configurations.
        length: side of the square.
        variables: the prognostic fields, in the order of C.
        static_variables: fields that do not change in time, such as a force or a wave speed.
        scalars: names of the parameters that the propagator takes, in the order of S.
        boundary: what lies beyond the edges along each axis.
        conserved_means: prognostic fields whose mean over the square stays as it is.
        solenoidal: whether the velocity (velocity_x, velocity_y) has no divergence.
        symmetries: the changes of fields under which trajectories stay trajectories.
        first_point: distance of the first grid point from the edge in spacings: 0 for nodes, 0.5 for cell centres.
        time_units: of durations; "1" where the equation has none.
    """

    kind: ClassVar[str]
    variables: tuple[Variable, ...]
    static_variables: tuple[Variable, ...] = ()
    scalars: tuple[str, ...] = ()
    conserved_means: tuple[str, ...] = ()
    solenoidal: bool = False
    symmetries: Symmetries
    boundary: ClassVar[Sides] = ("periodic", "periodic")
    first_point: ClassVar[float] = 0.0
    time_units: ClassVar[str] = "1"

    def __init__(self, length: float) -> None:
        self.length = length

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """Draw one random initial state (N = 1) in float64, the same function of space on every grid."""

    @abstractmethod
    def propagate(
        self,
        fields_NCHW: Tensor,
        static_NCHW: Tensor,
        scalars_NS: Tensor,
        duration: float,
        dt: float | None = None,
    ) -> Tensor:
        """The fields (N, C, H, W) after `duration`, differentiable in fields, static and scalars.

        Args:
            fields_NCHW: the state.
            static_NCHW: (N or 1, Cs, H, W).
            scalars_NS: (N or 1, S).
            duration: physical time, positive.
            dt: longest time step; the equation's own choice by default.
        """

    @abstractmethod
    def coarsen(self, fields_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """The same prognostic fields on a coarser grid."""

    @abstractmethod
    def coarsen_static(self, static_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """The same static fields on a coarser grid."""

    @abstractmethod
    def tangent(self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> Tensor:
        """The rates at which the fields' modes of a small change act on each other: A in dc/dt = A c.

        Linearised about the means of the frames, where it is one complex matrix for each mode: (N, C, C, H, K), or
        (N, 1, 1, H, K) where it is the same factor for all fields.
        """

    @final
    def mode_propagator(
        self, frames_NTCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor, duration: float
    ) -> Tensor:
        """What becomes of each mode of a small change after `duration`, approximately: exp(A duration) of `tangent`."""
        rates = duration * self.tangent(frames_NTCHW, static_NCHW, scalars_NS)
        if rates.shape[1] == 1:
            return rates.exp()
        matrices: Tensor = torch.linalg.matrix_exp(rates.permute(0, 3, 4, 1, 2).contiguous())
        return matrices.permute(0, 3, 4, 1, 2)

    def conserved(self, fields_NCHW: Tensor, static_NCHW: Tensor, scalars_NS: Tensor) -> dict[str, Tensor]:
        """Integrals (N,) over the square that do not change in time."""
        return {}

    @final
    def initial(
        self,
        seed: int,
        indices: Iterable[int],
        shape: tuple[int, int],
        dtype: torch.dtype = torch.float64,
    ) -> State:
        """Random initial states of some trajectories; that of trajectory i depends only on (seed, i)."""
        # One generator for each trajectory: neither the batch nor the number of workers changes what is drawn.
        states = [self.draw(np.random.default_rng([seed, index]), shape) for index in indices]
        return State(
            torch.cat([state.fields for state in states]).to(dtype),
            torch.cat([state.static for state in states]).to(dtype),
            torch.cat([state.scalars for state in states]),
        )

    @final
    def residual(
        self,
        frames_NTCHW: Tensor,
        static_NCHW: Tensor,
        scalars_NS: Tensor,
        interval: float,
        dt: float | None = None,
    ) -> Tensor:
        """How far each frame is from the one before, advanced by the propagator.

        (w_m - P(w_{m-1})) / interval, of shape (N, T - 1, C, H, W), with all frames in one batch. It is
        zero only for trajectories of this propagator, not for frames that are merely plausible one by
        one. The first frame is the anchor: it must be known, or any trajectory of the propagator would do.
        """
        t = frames_NTCHW.shape[1]

        def repeat(values: Tensor) -> Tensor:
            # As flatten(0, 1) orders frames: all of one trajectory before the next.
            return values if len(values) == 1 else values.repeat_interleave(t - 1, dim=0)

        advanced = self.propagate(
            frames_NTCHW[:, :-1].flatten(0, 1), repeat(static_NCHW), repeat(scalars_NS), interval, dt
        )
        # The propagator takes frames of a trajectory side by side, as if they were trajectories.
        later = frames_NTCHW[:, 1:]
        return (later - advanced.reshape(later.shape)) / interval

    def grid(self, shape: tuple[int, int]) -> Grid:
        """The grid on which the equation's fields have their values: that of the square, or one of its own."""
        y, x = self.unit_axes(shape)
        return Grid("cartesian", y * self.length, x * self.length, self.boundary, self.boundary)

    @final
    def unit_axes(self, shape: tuple[int, int]) -> tuple[Axis, Axis]:
        """The grid's y (H,) and x (W,) in units of the side, as random functions take them."""
        h, w = shape
        return (np.arange(h) + self.first_point) / h, (np.arange(w) + self.first_point) / w

    @final
    def integral(self, field_NHW: Tensor) -> Tensor:
        """The integral (N,) of a field over the square."""
        # On a periodic grid this is the trapezoidal rule, exact for every mode that the grid resolves.
        return field_NHW.mean(dim=(-2, -1)) * self.length**2


def static_variable(name: str) -> Variable:
    """The variable of this name in KNOWN, with the role `static`."""
    return known_variable(name).model_copy(update={"role": "static"})
