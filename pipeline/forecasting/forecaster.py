"""Forecaster: a model bound to a store, which makes forecasts in physical units.

Shapes: B samples, C channels, H rows, W columns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pelagos.evaluation.forecast_plan import ForecastPlan, ForecastStart, StartBatch, is_steady, lead_times
from pelagos.evaluation.truth import as_forecast
from pelagos.models.rollout import rollout
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.forecasting.forecast_inputs import Fields, InputHistory, StoredInputs
from pelagos.pipeline.runs.domain_fit import fit, lead_warnings, reach_notes
from pelagos.pipeline.runs.model_folder import Domain, Model, context_of, lagged
from pelagos.pipeline.runs.remarks import say
from pelagos.preprocessing import transform
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys, with_role

Mode = Literal["rollout", "direct"]


class Forecaster:
    """A model bound to a store.

    Args:
        model: knows the store's dataset.
        store: forecasts start from its frames.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for every lead time
            from the initial frame.
        batch: forecasts computed together.
        threads: of the CPU; results are bit-identical only for the same number.
        label: what warnings call the model.

    Raises:
        DataError: the model does not know the dataset, or knows its variables, grid or unit of time in a form that
            cannot be converted.
    """

    def __init__(
        self,
        model: Model,
        store: Store,
        mode: Mode = "rollout",
        batch: int = 16,
        threads: int = 2,
        label: str = "the model",
    ) -> None:
        self.store, self.mode, self.batch, self.threads = store, mode, batch, threads
        self.domain, self.label = model.domain(store.dataset), label
        self.fit = fit(self.domain, store, model.signature.scalars)
        _check_variables(self.domain, store)
        self.signature = model.signature
        self.network = model.network.to(distributed.device())
        self.layout = _layout(self.domain, store, self.fit.grid)
        self._said: set[str] = set()

    def blocks(
        self, plan: ForecastPlan, show: Callable[[int], None] = lambda done: None
    ) -> Iterator[xr.Dataset]:
        """The forecasts, a few trajectories at a time."""
        size = max(1, self.batch // len(plan.starts))
        for first in range(0, len(plan.trajectories), size):
            members = plan.trajectories[first : first + size]
            yield self.forecast(replace(plan, trajectories=members))
            show(first + len(members))

    def forecast(self, plan: ForecastPlan) -> xr.Dataset:
        """(trajectory, start, [member,] lead_time, y, x) fields of all output variables; missing points are NaN.

        Raises:
            DataError: the model cannot start that early, or cannot make steps of that length.
        """
        values = np.concatenate(
            [np.stack(list(self.frames(batch, plan)), axis=1) for batch in plan.batches(self.batch)]
        )
        shape = (*plan.sample_shape, *values.shape[1:])
        return as_forecast(self.store, plan, self.domain.outputs, values.reshape(shape))

    @torch.inference_mode()
    def frames(self, batch: StartBatch, plan: ForecastPlan) -> Iterator[Fields]:
        """(B, C, H, W) fields of the output variables at one lead time of a batch's forecasts after the other.

        No frame is kept: memory does not grow with the number of steps.

        Raises:
            DataError: the model cannot start that early, or cannot make steps of that length.
        """
        self._check_history(plan)
        self._check_step(plan)
        self.warn(plan)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield from BatchForecast(self, batch.samples, plan).frames()
        finally:
            torch.set_num_threads(before)

    def warn(self, plan: ForecastPlan) -> None:
        """Say, once, where the store or the plan leave what the model was trained on."""
        step = self.step_lead(plan) * self.domain.time_scale
        longest = step * (plan.steps if self.mode == "direct" else 1)
        leads, reach = [], []
        if not is_steady(self.store):
            leads = lead_warnings(self.domain, step, longest)
            reach = [] if leads else reach_notes(self.domain, step * plan.steps)
        lines = [f"note: {self.label}: {note}" for note in (*self.fit.notes, *reach)]
        held = _held_warnings(self.domain, self.store)
        lines += [f"WARNING: {self.label}: {warning}" for warning in (*self.fit.warnings, *leads, *held)]
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                say(line)

    def step_lead(self, plan: ForecastPlan) -> float:
        """The lead time of one step as the network counts it."""
        if is_steady(self.store):
            return 1 / self.domain.time_scale
        return float(lead_times(self.store, plan)[0] * self.fit.time / self.domain.time_scale)

    def _check_history(self, plan: ForecastPlan) -> None:
        first = (self.domain.frames - 1) * plan.stride
        if min(plan.starts) < first:
            raise DataError(
                f"{self.store.path}: the model sees {self.domain.frames} frames, {plan.stride} apart, so the"
                f" first frame it can start from is {first}, not {min(plan.starts)}: see starts.first"
            )

    def _check_step(self, plan: ForecastPlan) -> None:
        step = self.step_lead(plan)
        if getattr(self.network, "one_step", False) and (self.mode == "direct" or abs(step - 1) > 1e-6):
            scale = self.domain.time_scale
            raise DataError(
                f"the model only knows one step of {scale:g} {self.domain.time_units or self.store.time_units};"
                " the forecast has steps of"
                f" {step * scale:g} in mode {self.mode}: choose starts.stride so that they agree, and mode rollout"
            )


class BatchForecast:
    """One batch of forecasts in the making, a frame at a time."""

    def __init__(self, forecaster: Forecaster, samples: Sequence[ForecastStart], plan: ForecastPlan) -> None:
        self._mode, self._steps = forecaster.mode, plan.steps
        self._domain, self._network = forecaster.domain, forecaster.network
        self._signature, self._layout = forecaster.signature, forecaster.layout
        self._fit = forecaster.fit
        self._inputs = StoredInputs(forecaster.store, self._domain, samples, plan.stride, self._fit)
        lead, device = forecaster.step_lead(plan), distributed.device()
        self._held = torch.tensor(
            [n for n, key in enumerate(keys(self._domain.outputs)) if key in self._domain.held],
            dtype=torch.long,
            device=device,
        )
        self._lead_B = torch.full((len(samples),), lead, dtype=torch.float32, device=device)
        state = self._inputs.state()
        self._valid = torch.isfinite(state)
        self._state_BCHW = state.nan_to_num(0.0)

    def frames(self) -> Iterator[Fields]:
        """(B, C, H, W) physical fields at one lead time after the other."""
        for frame_BCHW in self._direct() if self._mode == "direct" else self._rollout():
            yield self._physical(frame_BCHW)

    def _direct(self) -> Iterator[Tensor]:
        """Every lead time from the initial frame."""
        history = InputHistory(self._inputs.lagged())
        fields_BCHW = torch.cat([self._state_BCHW, self._inputs.static_BCHW, self._inputs.forcing(0)], dim=1)
        for step in range(self._steps):
            frame_BCHW = self._call(history.join(fields_BCHW), self._lead_B * (step + 1))
            yield frame_BCHW.index_fill(1, self._held, 0.0)

    def _rollout(self) -> Iterator[Tensor]:
        """Each step from the step before."""
        history = InputHistory(self._inputs.lagged())

        def advance(fields_BCHW: Tensor) -> Tensor:
            frame_BCHW = self._call(history.join(fields_BCHW), self._lead_B)
            history.push(fields_BCHW)
            return frame_BCHW

        forcing = self._inputs.forcing if with_role(self._domain.inputs, "forcing") else None
        return rollout(
            advance, self._state_BCHW, self._inputs.static_BCHW, forcing, self._output_mask(), self._steps
        )

    def _call(self, fields_BCHW: Tensor, lead_B: Tensor) -> Tensor:
        given = context_of(self._signature, self._layout, self._inputs.scalars_BS, lead_B)
        frame_BCHW: Tensor = self._network(fields_BCHW, lead_B, given)
        return frame_BCHW

    def _output_mask(self) -> Tensor:
        """(B, C, H, W) where outputs are forecast: prognostic where the initial frame has values, others everywhere.

        Those that are held are forecast nowhere: a frame is 0 there, which is the mean.
        """
        batch, prognostic, *shape = self._valid.shape
        diagnostic = self._valid.new_ones(batch, len(self._domain.outputs) - prognostic, *shape)
        return torch.cat([self._valid, diagnostic], dim=1).index_fill(1, self._held, value=False)

    def _physical(self, frame_BCHW: Tensor) -> Fields:
        outputs = self._domain.outputs
        stored: Fields = self._domain.normalizer(outputs).denormalize(frame_BCHW.float().cpu().numpy())
        physical = transform.to_physical(stored, [variable.transform for variable in outputs])
        valid = self._valid.cpu().numpy()
        physical[:, : valid.shape[1]][~valid] = np.nan
        return self._fit.turned(physical)


def _layout(domain: Domain, store: Store, grid: Grid) -> Layout:
    inputs = tuple(lagged(variable, age) for age in range(domain.frames) for variable in domain.inputs)
    return Layout(store.dataset, inputs, domain.outputs, grid, domain.scalars, domain.time_scale)


def _held_warnings(domain: Domain, store: Store) -> list[str]:
    """Where the model holds a variable still that moves in the store."""
    constant = dict(zip(keys(store.variables), store.stats.constant.tolist(), strict=True))
    return [
        f"{key} was constant in its training, so that forecasts hold it at {domain.scales[key].mean:g}; in {store.path}"
        " it varies: fine-tune the model there"
        for key in domain.held
        if not constant.get(key, True)
    ]


def _check_variables(domain: Domain, store: Store) -> None:
    present = {variable.key: variable for variable in (*store.variables, *store.static_variables)}
    missing = [key for key in keys(domain.inputs) if key not in present]
    if missing:
        raise DataError(f"{store.path} lacks the model's input variables {', '.join(missing)}")
    for known in (*domain.inputs, *domain.outputs):
        found = present.get(known.key, known)
        if not found.same_values(known):
            raise DataError(
                f"{store.path} has {known.key} in {found.describe_values()}; "
                f"the model knows it in {known.describe_values()}"
            )
