"""Refinement batches: forecasts of a plan in batches, each with what its equation needs.

Shapes: N forecasts of a batch, M frames, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.truth import read_initial, read_truth
from pelagos.models.refinement.amortised_head import TrainingForecasts
from pelagos.models.refinement.released_loss import relative_released_residual
from pelagos.models.refinement.step_problem import SobolevWeight, StepProblem
from pelagos.pipeline.forecasting.equation_inputs import EquationInputs, check_inputs
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.equation_fit import EquationFit, check_fit
from pelagos.preprocessing.physics.navier_stokes import NavierStokes
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys


@dataclass(frozen=True, eq=False)
class EquationOfStore:
    """An equation, and the store whose data obey it.

    Attributes:
        config: the equation's configuration; numbers that it sets stand in for scalars that the store lacks.
        equation: what the data obey.
        store: holds initial frames, truth and parameters.
        fit: the store's grid and times as the equation takes them.
        dt: longest time step of the propagator; the equation's own choice by default.
        weight: the norm of residuals.
    """

    config: Equation
    equation: PDE
    store: Store
    fit: EquationFit
    dt: float | None
    weight: SobolevWeight

    @classmethod
    def of(cls, config: Equation, store: Store, dt: float | None, weight: SobolevWeight) -> "EquationOfStore":
        """The equation on a store's grid.

        Raises:
            DataError: the store's grid or units are not the equation's.
        """
        equation = config.build()
        return cls(config, equation, store, check_fit(equation, store), dt, weight)

    def check(self, plan: ForecastPlan) -> list[str]:
        """Notes on the parameters of a plan's forecasts, before any is made.

        Raises:
            DataError: a field or a parameter is not known, or a start has missing values.
        """
        return check_inputs(self.config, self.equation, self.store, plan)

    def problem(self, plan: ForecastPlan, places: list[dict[str, int]], frames_NMCHW: Tensor) -> StepProblem:
        """The equation between frames of some forecasts of a plan."""
        static, scalars, interval = self._inputs(plan, places)
        return StepProblem.of(
            self.equation, self.fit.grid, frames_NMCHW, static, scalars, interval, self.dt, self.weight
        )

    def released(self, plan: ForecastPlan, places: list[dict[str, int]], frames_NMCHW: Tensor) -> Tensor:
        """(N,) the loss released with Spectral-Refiner of some forecasts of a flow, for comparison."""
        assert isinstance(self.equation, NavierStokes)
        return relative_released_residual(self.equation, frames_NMCHW, *self._inputs(plan, places))

    def _inputs(self, plan: ForecastPlan, places: list[dict[str, int]]) -> tuple[Tensor, Tensor, float]:
        """Static fields and scalars of some forecasts, and the time between frames."""
        trajectories = [plan.trajectories[place["trajectory"]] for place in places]
        inputs = EquationInputs.of(self.config, self.equation, self.store, trajectories)
        # In float32 the residual would drown in rounding: a step changes a frame by little.
        static, scalars = torch.from_numpy(inputs.static), torch.from_numpy(inputs.scalars)
        return static, scalars, plan.stride * self.store.dt * self.fit.time


@dataclass(frozen=True, eq=False)
class RefinementBatch:
    """Some forecasts, in float64.

    Attributes:
        places: of each, its positions among trajectories and starts.
        forecasts: frames of the network, the frames that they start from, and the equation between them.
        truth: (N, M, C, H, W) frames; None where they are not known.
    """

    places: list[dict[str, int]]
    forecasts: TrainingForecasts
    truth: Tensor | None


def refinement_batches(
    equation: EquationOfStore, plan: ForecastPlan, forecast: xr.Dataset, size: int, with_truth: bool
) -> Iterator[RefinementBatch]:
    """The forecasts of a plan, `size` at a time.

    Args:
        equation: what the data obey.
        plan: which forecasts these are.
        forecast: (trajectory, start, lead_time, y, x) the equation's variables.
        size: of a batch.
        with_truth: whether the store holds the frames that are forecast.
    """
    variables = equation.equation.variables
    names = list(keys(variables))
    truth = read_truth(equation.store, plan, variables) if with_truth else None
    initial = read_initial(equation.store, plan, variables)
    places = [
        {"trajectory": number, "start": start}
        for number in range(len(plan.trajectories))
        for start in range(len(plan.starts))
    ]
    for first in range(0, len(places), size):
        some = places[first : first + size]
        frames, known = _tensor(forecast, names, some), _tensor(initial, names, some)
        exact = None if truth is None else _tensor(truth, names, some)
        yield RefinementBatch(
            some, TrainingForecasts(frames, known, equation.problem(plan, some, frames)), exact
        )


def _tensor(dataset: xr.Dataset, names: list[str], places: list[dict[str, int]]) -> Tensor:
    """(N, [M,] C, H, W) float64."""

    def one(place: dict[str, int]) -> Tensor:
        arrays = [np.ascontiguousarray(dataset[name].isel(place).values) for name in names]
        return torch.stack([torch.from_numpy(array).double() for array in arrays], dim=-3)

    return torch.stack([one(place) for place in places])
