"""Coarse solver: the equation itself on a coarser grid or with longer steps, the baseline that a network has to beat.

Shapes: B forecasts, C fields of the equation, S scalars, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pelagos.evaluation.forecast_plan import ForecastPlan, StartBatch
from pelagos.evaluation.streaming.frame_sources import StoredFrames
from pelagos.models.layers.fourier_resample import fourier_resample
from pelagos.pipeline.forecasting.equation_inputs import EquationInputs, check_inputs
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.equation_fit import check_fit
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys

_KEY = "solver.equation"
"""Of the equation in an evaluation, for messages."""


class SolverConfig(Config):
    """The equation that a store's trajectories obey, and how cheaply it is solved.

    Attributes:
        equation: what the data obey; its scalars and static fields are those of the store.
        coarsen: points of the store's grid along each axis for one of the solver's; 1 keeps the grid.
        dt: longest time step; by default the equation chooses.
    """

    equation: Equation
    coarsen: int = Field(default=2, ge=1)
    dt: float | None = Field(default=None, gt=0)

    def coarse_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The solver's grid for a store's.

        Raises:
            ConfigError: the store's grid can't be divided so.
        """
        if any(size % self.coarsen for size in shape):
            raise ConfigError(
                f"solver.coarsen: {shape[0]} x {shape[1]} points are no multiple of {self.coarsen}"
            )
        return shape[0] // self.coarsen, shape[1] // self.coarsen

    def describe(self, shape: tuple[int, int]) -> str:
        """What is solved, for those who read the scores."""
        rows, columns = self.coarse_shape(shape)
        step = "steps of the solver's choice" if self.dt is None else f"steps of {self.dt:g} at most"
        back = "" if self.coarsen == 1 else f", interpolated to {shape[0]} x {shape[1]}"
        return f"{self.equation.kind} solved on {rows} x {columns} points with {step}{back}"


def solve_coarsely(
    config: SolverConfig,
    initial_BCHW: NDArray[Any],
    static_BCHW: NDArray[Any],
    scalars_BS: Floats,
    interval: float,
    steps: int,
) -> Iterator[Floats]:
    """(B, C, H, W) one frame after the other, in float64; a forecast that blows up becomes NaN.

    The state stays on the coarse grid from step to step; only what is given is interpolated back.

    Args:
        config: the equation and its grid.
        initial_BCHW: frames of the equation's variables, in its order.
        static_BCHW: of its static fields, as many as it has.
        scalars_BS: of its scalars.
        interval: time between frames.
        steps: how many frames.

    Raises:
        ConfigError: the grid can't be divided as the configuration says.
    """
    equation = config.equation.build()
    shape = (initial_BCHW.shape[-2], initial_BCHW.shape[-1])
    coarse = config.coarse_shape(shape)
    state = equation.coarsen(torch.from_numpy(np.asarray(initial_BCHW, np.float64)), coarse)
    static = equation.coarsen_static(torch.from_numpy(np.asarray(static_BCHW, np.float64)), coarse)
    scalars = torch.from_numpy(np.asarray(scalars_BS, np.float64))
    for _ in range(steps):
        with torch.inference_mode():
            state = equation.propagate(state, static, scalars, interval, config.dt)
            frame: Floats = _refined(state, shape, equation).numpy()
        yield frame


def _refined(coarse_BCHW: Tensor, shape: tuple[int, int], equation: PDE) -> Tensor:
    """The fields on the finer grid: waves by their coefficients, cells linearly, as shocks would ring."""
    rows, columns = coarse_BCHW.shape[-2:]
    if (rows, columns) == shape:
        return coarse_BCHW
    if equation.first_point == 0:
        return fourier_resample(coarse_BCHW, shape)
    factors = (shape[0] // rows, shape[1] // columns)
    padded = F.pad(coarse_BCHW, (1, 1, 1, 1), mode="circular")
    size = [factor * (n + 2) for factor, n in zip(factors, (rows, columns), strict=True)]
    fine = F.interpolate(padded, size=size, mode="bilinear", align_corners=False)
    return fine[..., factors[0] : -factors[0], factors[1] : -factors[1]]


@dataclass(frozen=True, eq=False)
class SolverFrames:
    """The coarse solver's forecasts of a plan, frame by frame, as an evaluation takes them.

    Attributes:
        config: how cheaply the equation is solved.
        equation: what the data obey.
        stored: the store's frames of the plan.
        time: the store's unit of time in the equation's.
        notes: on numbers that the equation sets.
    """

    config: SolverConfig
    equation: PDE
    stored: StoredFrames
    time: float
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, config: SolverConfig, store: Store, plan: ForecastPlan) -> "SolverFrames":
        """The solver on a store's grid, with its scalars and static fields.

        Raises:
            ConfigError: the grid can't be divided as the configuration says.
            DataError: the store's fields are not what the equation takes them for, or a start has missing values.
        """
        equation = config.equation.build()
        fit = check_fit(equation, store)
        config.coarse_shape(store.grid.shape)
        notes = check_inputs(config.equation, equation, store, plan, _KEY)
        own = {variable.key: variable for variable in store.variables}
        channels = tuple(own[key] for key in keys(equation.variables))
        return cls(config, equation, StoredFrames(store, plan, channels), fit.time, notes)

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the equation's variables."""
        return self.stored.variables

    def frames(self, batch: StartBatch) -> Iterator[Floats]:
        """(B, V, H, W) fields at one lead time after the other, in float64."""
        store, plan = self.stored.store, self.stored.plan
        trajectories = [one.trajectory for one in batch.samples]
        inputs = EquationInputs.of(self.config.equation, self.equation, store, trajectories, _KEY)
        return solve_coarsely(
            self.config,
            self.stored.at(batch, 0),
            inputs.static,
            inputs.scalars,
            plan.stride * store.dt * self.time,
            plan.steps,
        )
