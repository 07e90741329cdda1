"""Forecaster: a model bound to a store, which makes forecasts in physical units.

Shapes: B samples, C channels, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
import xarray as xr

from pelagos.evaluation.forecast_plan import ForecastPlan, ForecastStart, StartBatch, is_steady, lead_times
from pelagos.evaluation.truth import as_forecast
from pelagos.models.layers.noise import noise_columns
from pelagos.models.networks.network import check_grid
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.forecasting.batch_forecast import BatchForecast, NetworkCall
from pelagos.pipeline.forecasting.ensemble import BredStarts, EnsembleConfig, dropout_modules
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecast_inputs import Fields, StoredInputs
from pelagos.pipeline.forecasting.strategy import Composite, Mode
from pelagos.pipeline.runs.domain_fit import DomainFit, fit, lead_warnings, reach_notes
from pelagos.pipeline.runs.model_folder import Domain, Model, constrained_step
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.runs.thread_count import threads
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys, with_role


class Forecaster:
    """A model bound to a store.

    Args:
        model: knows the store's dataset.
        store: forecasts start from its frames.
        mode: the strategy, see `strategy.Mode`.
        batch: forecasts computed together.
        threads: of the CPU; results are bit-identical only for the same number.
        label: what warnings call the model.
        supply: where forcings come from beyond the store; by default from the clock alone.
        ensemble: how the members of a plan differ; None where they do not.

    Raises:
        DataError: the model does not know the dataset, or knows its variables, grid or unit of time in a form that
            cannot be converted.
        ConfigError: the ensemble asks for what the network does not have, or a constraint for what the store has not.
    """

    def __init__(
        self,
        model: Model,
        store: Store,
        mode: Mode = "rollout",
        batch: int = 16,
        threads: int = 2,
        label: str = "the model",
        supply: ForcingSupply | None = None,
        ensemble: EnsembleConfig | None = None,
    ) -> None:
        self.store, self.mode, self.batch, self.threads = store, mode, batch, threads
        self.domain, self.label = model.domain(store.dataset), label
        self.fit = fit(self.domain, store, model.signature.scalars)
        self.supply, self.ensemble = supply or ForcingSupply(store), ensemble
        check_variables(self.domain, self.supply)
        if ensemble is not None:
            _check_ensemble(ensemble, model, mode)
        self.signature = model.signature
        self.network = model.network.to(distributed.device())
        self.layout = _layout(self.domain, store, self.fit.grid)
        check_grid(model.config, self.fit.grid, store.dataset)
        self._constrained = constrained_step(model.constraints, self.domain, self.layout)
        self._said: set[str] = set()
        self._checked: ForecastPlan | None = None

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
            DataError: the model cannot start that early, cannot make steps of that length, or a forcing is not known.
        """
        self.check(plan)
        self.warn(plan)
        with threads(self.threads):
            yield from self._batch(batch, plan).frames()

    def _batch(self, batch: StartBatch, plan: ForecastPlan) -> BatchForecast:
        lead = self.step_lead(plan)
        facts = self.signature, self.layout, self.domain, self.fit
        call = NetworkCall(self.network, *facts, lead, self._constrained)
        sources = self._sources(batch.samples, plan)
        ages = _ages(self.domain, self.fit, self.store, plan)
        inputs = StoredInputs(self.store, self.domain, sources, plan.stride, self.fit, self.supply, ages)
        return BatchForecast(call, inputs, batch.samples, self.mode, plan.steps, self.ensemble)

    def _sources(self, samples: Sequence[ForecastStart], plan: ForecastPlan) -> Sequence[ForecastStart]:
        """The starts whose frames the samples begin with."""
        if self.ensemble is None:
            return samples
        count = len(plan.members) or 1
        return [self.ensemble.source(one, count) for one in samples]

    def check(self, plan: ForecastPlan) -> None:
        """Check that all forecasts of a plan can be made, before the first of them is.

        Raises:
            DataError: the model cannot start that early, cannot make steps of that length, or a forcing is not known.
        """
        if plan == self._checked:
            return  # each batch of a plan asks again
        check_history(self.domain, self.fit, self.store, plan, self.ensemble)
        self._check_step(plan)
        last = 0 if self.mode == "direct" else plan.steps - 1
        if self.domain.sees_valid_forcing:
            last = plan.steps
        sources = self._sources(plan.samples_at(plan.starts[0]), plan)
        rows = tuple(sorted({one.trajectory for one in sources}))
        self.supply.check(self.domain.inputs, replace(plan, trajectories=rows), last * plan.stride)
        if self._constrained.is_driven:
            prognostic, longest = with_role(self.domain.inputs, "prognostic"), plan.steps * plan.stride
            for row in rows:
                self.supply.outside(prognostic, row, max(plan.starts) + longest)
        self._checked = plan

    def warn(self, plan: ForecastPlan) -> None:
        """Say, once, where the store or the plan leave what the model was trained on."""
        for about, text in concerns(self.domain, self.fit, self.store, plan, self.mode):
            line = f"{about}: {self.label}: {text}"
            if line not in self._said:
                self._said.add(line)
                say(line)

    def step_lead(self, plan: ForecastPlan) -> float:
        """The lead time of one step as the network counts it."""
        return _step_lead(self.domain, self.fit, self.store, plan)

    def _check_step(self, plan: ForecastPlan) -> None:
        step, other = self.step_lead(plan), self.mode != "rollout"
        if isinstance(self.mode, Composite) and (self.domain.ages or self.domain.sees_valid_forcing):
            raise DataError(
                "mode composite: the model sees earlier frames or forcings at the valid time, which it is not given"
                " for steps of several lengths: choose mode rollout or direct"
            )
        if getattr(self.network, "one_step", False) and (other or abs(step - 1) > 1e-6):
            scale = self.domain.time_scale
            raise DataError(
                f"the model only knows one step of {scale:g} {self.domain.time_units or self.store.time_units};"
                f" the forecast has steps of {step * scale:g} in mode {getattr(self.mode, 'kind', self.mode)}:"
                " choose starts.stride so that they agree, and mode rollout"
            )


def check_history(
    domain: Domain,
    found: DomainFit,
    store: Store,
    plan: ForecastPlan,
    ensemble: EnsembleConfig | None = None,
) -> None:
    """Check that the store has the frames before each start that a model sees, or that breeding begins from.

    Raises:
        DataError: it lacks one.
    """
    starts = None if ensemble is None else ensemble.starts
    bred = starts.cycles if isinstance(starts, BredStarts) and not starts.in_place else 0
    reach = max(_ages(domain, found, store, plan), default=0)
    first = reach + bred * plan.stride
    if min(plan.starts) < first:
        why = (
            f"the model sees {domain.frames} frames, {plan.stride} apart"
            if domain.frames > 1
            else f"the model sees frames from {reach} before the start on"
        )
        if bred:
            why += f", and {bred} cycles of breeding go before, unless ensemble.starts.in_place is set"
        raise DataError(
            f"{store.path}: {why}, so the first frame it can start from is {first}, not {min(plan.starts)}:"
            " see starts.first"
        )


def _ages(domain: Domain, found: DomainFit, store: Store, plan: ForecastPlan) -> tuple[int, ...]:
    """How long before the initial frame the other frames that the network sees lie [frames of the store].

    Raises:
        DataError: the store has no frames there.
    """
    if not domain.history:
        return tuple(age * plan.stride for age in domain.ages)
    step = domain.frame_time / (store.dt * found.time)
    ages = [age * step for age in domain.history]
    if any(abs(age - round(age)) > 1e-3 or round(age) < 1 for age in ages):
        before = ", ".join(f"{age * domain.frame_time:g}" for age in domain.history)
        raise DataError(
            f"the model sees frames {before} {domain.time_units or store.time_units} before the start;"
            f" {store.path} has frames {store.dt:g} {store.time_units} apart, of which none lie"
            " there: build the store with the time step of the training"
        )
    return tuple(round(age) for age in ages)


def concerns(
    domain: Domain, found: DomainFit, store: Store, plan: ForecastPlan, mode: Mode
) -> Iterator[tuple[Literal["note", "WARNING"], str]]:
    """Where a store or a plan leave what a model was trained on: what is made good, then what is not.

    Args:
        domain: what the model knows of the store's dataset.
        found: how the store is brought to it.
        store: forecasts start from its frames.
        plan: all forecasts.
        mode: the strategy.
    """
    step = _step_lead(domain, found, store, plan) * domain.time_scale
    leads, reach = [], []
    if not is_steady(store):
        leads = lead_warnings(domain, step, step * _longest(plan, mode))
        reach = [] if leads else reach_notes(domain, step * plan.steps)
    yield from (("note", note) for note in (*found.notes, *reach))
    yield from (("WARNING", text) for text in (*found.warnings, *leads, *_held_warnings(domain, store)))


def _step_lead(domain: Domain, found: DomainFit, store: Store, plan: ForecastPlan) -> float:
    if is_steady(store):
        return 1 / domain.time_scale
    return float(lead_times(store, plan)[0] * found.time / domain.time_scale)


def _longest(plan: ForecastPlan, mode: Mode) -> int:
    """The longest lead time that the network is called with, in steps."""
    if isinstance(mode, Composite):
        return min(mode.lengths[0], plan.steps)
    return plan.steps if mode == "direct" else 1


def _layout(domain: Domain, store: Store, grid: Grid) -> Layout:
    return Layout(
        store.dataset,
        domain.inputs,
        domain.outputs,
        grid,
        domain.scalars,
        domain.time_scale,
        history=domain.ages,
        sees_valid_forcing=domain.sees_valid_forcing,
    )


def _held_warnings(domain: Domain, store: Store) -> list[str]:
    """Where the model holds a variable still that moves in the store."""
    constant = dict(zip(keys(store.variables), store.stats.constant.tolist(), strict=True))
    return [
        f"{key} was constant in its training, so that forecasts hold it at {domain.scales[key].mean:g}; in {store.path}"
        " it varies: fine-tune the model there"
        for key in domain.held
        if not constant.get(key, True)
    ]


def _check_ensemble(ensemble: EnsembleConfig, model: Model, mode: Mode) -> None:
    if ensemble.sampled and not noise_columns(model.signature):
        raise ConfigError(
            "ensemble.sampled: the network was trained without noise (loss.kind crps), so that it has nothing to draw"
        )
    if ensemble.dropout:
        dropout_modules(model.network)
    if ensemble.noise and mode == "direct":
        raise ConfigError(
            "ensemble.noise is added to the state before each step, and mode direct takes none: perturb the starts"
        )


def check_variables(domain: Domain, supply: ForcingSupply) -> None:
    """Check that the variables of a model are known in the values that it learnt.

    Raises:
        DataError: one is missing, or has other units or another transform.
    """
    path = supply.store.path
    held = keys((*supply.store.variables, *supply.store.static_variables))
    missing = [
        one.key
        for one in domain.inputs
        if one.key not in held and (one.role == "prognostic" or supply.knows(one) is None)
    ]
    if missing:
        more = f" {supply.other.path} does not hold them either" if supply.other is not None else ""
        raise DataError(f"{path} lacks the model's input variables {', '.join(missing)}{more}")
    for known in (*domain.inputs, *domain.outputs):
        found = supply.knows(known) or known
        if not found.same_values(known):
            raise DataError(
                f"{path} has {known.key} in {found.describe_values()}; the model knows it in {known.describe_values()}:"
                f" {_rebuilding(found, known)}"
            )


def _rebuilding(found: Variable, known: Variable) -> str:
    """How to build a store whose values of a variable are those that a model knows."""
    if found.transform == known.transform:
        return f"build the store with convert: {{{found.name}: {known.units}}}"
    return "build the store with the model's transforms"
