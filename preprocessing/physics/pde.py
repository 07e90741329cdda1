"""PDE: what every equation can do: start, advance, say what it conserves, and judge frames by their residual.

Shapes: N trajectories, T frames, C fields, S scalars, H rows, W columns. Static fields and scalars
of (1, ...) stand for all N trajectories.
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
from pelagos.preprocessing.variables import Variable, known_variable


@dataclass(frozen=True, eq=False)
class State:
    """What trajectories start from.

    Attributes:
        fields: (N, C, H, W) the equation's `variables` at the initial time.
        static: (N, Cs, H, W) its `static_variables`, Cs = 0 where it has none.
        scalars: (N, S) its `scalars`; float64.
    """

    fields: Tensor
    static: Tensor
    scalars: Tensor


class PDE(ABC):
    """An evolution equation on a periodic square, with a differentiable propagator.

    Everything is batched over trajectories, each with its own scalars and static fields, and runs
    in the dtype and on the device of the fields. Grids may have any H and W; the spacings are
    length / H and length / W.

    Attributes:
        kind: the equation's name in configurations.
        length: side of the square.
        variables: the prognostic fields, in the order of C.
        static_variables: fields that stay as they are, such as a force or a wave speed.
        scalars: names of the parameters that the propagator is given.
    """

    kind: ClassVar[str]
    variables: tuple[Variable, ...]
    static_variables: tuple[Variable, ...] = ()
    scalars: tuple[str, ...] = ()
    boundary: ClassVar[Sides] = ("periodic", "periodic")
    first_point: ClassVar[float] = 0.0
    """Where the first grid point lies, in spacings from the edge: 0 for nodes, 0.5 for centres of cells."""

    def __init__(self, length: float) -> None:
        self.length = length

    @abstractmethod
    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> State:
        """One random initial state (N = 1) in float64, the same function of space on every grid."""

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
            dt: longest time step; by default the equation's own choice.
        """

    @abstractmethod
    def coarsen(self, fields_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """The same prognostic fields on a coarser grid."""

    @abstractmethod
    def coarsen_static(self, static_NCHW: Tensor, shape: tuple[int, int]) -> Tensor:
        """The same static fields on a coarser grid."""

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
        """Random initial states; that of trajectory i depends on (seed, i) alone."""
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

        (w_m - P(w_{m-1})) / interval, of shape (N, T - 1, C, H, W), all frames in one batch. It is
        zero for trajectories of this propagator only, not for frames that are each plausible by
        themselves. The first frame is the anchor: it must be known, or any trajectory would do.
        """
        t = frames_NTCHW.shape[1]

        def repeat(values: Tensor) -> Tensor:
            return values if len(values) == 1 else values.repeat_interleave(t - 1, dim=0)

        advanced = self.propagate(
            frames_NTCHW[:, :-1].flatten(0, 1), repeat(static_NCHW), repeat(scalars_NS), interval, dt
        )
        later = frames_NTCHW[:, 1:]
        return (later - advanced.reshape(later.shape)) / interval

    @final
    def grid(self, shape: tuple[int, int]) -> Grid:
        """Where the values of this equation's fields are."""
        y, x = self.unit_axes(shape)
        return Grid("cartesian", y * self.length, x * self.length, self.boundary, self.boundary)

    @final
    def unit_axes(self, shape: tuple[int, int]) -> tuple[Axis, Axis]:
        """The grid's y (H,) and x (W,) in units of the side length, for random functions."""
        h, w = shape
        return (np.arange(h) + self.first_point) / h, (np.arange(w) + self.first_point) / w

    @final
    def integral(self, field_NHW: Tensor) -> Tensor:
        """The integral (N,) of a field over the square."""
        return field_NHW.mean(dim=(-2, -1)) * self.length**2


def static_variable(name: str) -> Variable:
    """The table's variable of this name as a static one."""
    return known_variable(name).model_copy(update={"role": "static"})
