"""Forecasts: a model rolled out from frames of a store, kept as Zarr."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pelagos.models.rollout import rollout
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.runs.model_folder import Domain, Model, context, earlier, load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.tracking import registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing import transform
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.location import Folder, Location
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable, keys, with_role

Array = NDArray[np.float32]


class StartsConfig(Config):
    """Which forecasts are made: from which frames of which trajectories, how far.

    Attributes:
        split: forecasts lie in this split with all their frames.
        trajectories: the first so many of the split, all where absent.
        first: frame of the first start.
        every: frames between starts; absent for the first one only.
        stride: frames a step.
        steps: steps a forecast.
    """

    split: str = "test"
    trajectories: int | None = Field(default=None, gt=0)
    first: int = Field(default=0, ge=0)
    every: int | None = Field(default=None, gt=0)
    stride: int = Field(default=1, gt=0)
    steps: int = Field(default=1, gt=0)

    def plan(self, store: Store) -> "Plan":
        """The trajectories and start frames that a store offers.

        Raises:
            DataError: the store has no such split, or no forecast fits into it.
        """
        inside = frames_of(store, self.split)
        reach = 0 if is_steady(store) else self.stride * self.steps
        members = np.flatnonzero(inside.any(axis=1))[: self.trajectories]
        offset = int(np.argmax(inside[members[0]])) + self.first
        last = store.num_times - reach
        candidates = range(offset, last, self.every) if self.every else range(offset, min(offset + 1, last))
        starts = [s for s in candidates if inside[members, s : s + reach + 1].all()]
        if not starts:
            frames = int(inside[members].sum(axis=1).min())
            raise DataError(
                f"{store.path}: no forecast of {self.steps} steps of {self.stride} frames from frame"
                f" {self.first} on fits into split {self.split!r}, whose trajectories have {frames} frames"
            )
        return Plan(tuple(int(i) for i in members), tuple(starts), self.stride, self.steps)


@dataclass(frozen=True)
class Plan:
    """Forecasts to make: each trajectory from each start, `steps` steps of `stride` frames."""

    trajectories: tuple[int, ...]
    starts: tuple[int, ...]
    stride: int
    steps: int


class ForecastStage(Config):
    """Forecasts of one model on one store.

    Attributes:
        model: a folder, or models:/NAME@ALIAS of the registry.
        store: what forecasts start from.
        output: the Zarr store of the forecasts.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for each lead time
            from the initial frame.
        batch: forecasts computed together.
        threads: of the processor; results are the same to the last bit for the same number only.
    """

    command: Literal["forecast"] = "forecast"
    model: str
    store: Location
    output: Folder
    starts: StartsConfig = StartsConfig()
    mode: Literal["rollout", "direct"] = "rollout"
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    overwrite: bool = False
    tracking: TrackingConfig = TrackingConfig()


def run(config: ForecastStage) -> Path:
    """Make the forecasts of a configuration.

    Raises:
        ConfigError: the output exists and is not to be overwritten.
    """
    if config.output.exists() and not config.overwrite:
        raise ConfigError(f"{config.output} exists: give another output=, or overwrite=true")
    store = open_store(config.store)
    plan = config.starts.plan(store)
    model = load(registry.resolve(config.model, config.tracking))
    forecaster = Forecaster(model, store, config.mode, config.batch, config.threads)
    with bar("forecast", len(plan.trajectories)) as show:
        write(forecaster.blocks(plan, show), config.output)
    print(f"forecasts: {config.output}")
    return config.output


class Forecaster:
    """A model bound to a store: makes forecasts in physical units."""

    def __init__(
        self,
        model: Model,
        store: Store,
        mode: Literal["rollout", "direct"] = "rollout",
        batch: int = 16,
        threads: int = 2,
    ) -> None:
        self.store, self.mode, self.batch, self.threads = store, mode, batch, threads
        self.domain = model.domain(store.dataset)
        self.signature = model.signature
        self.network = model.network.to(distributed.device())
        _check_variables(self.domain, store)
        self.layout = Layout(
            store.dataset,
            tuple(
                earlier(variable, age) for age in range(self.domain.frames) for variable in self.domain.inputs
            ),
            self.domain.outputs,
            store.grid,
            self.domain.scalars,
            self.domain.time_scale,
        )
        self.prognostic = with_role(self.domain.inputs, "prognostic")
        self.static = with_role(self.domain.inputs, "static")
        self.forcing = with_role(self.domain.inputs, "forcing")

    def blocks(self, plan: Plan, show: Callable[[int], None] = lambda done: None) -> Iterator[xr.Dataset]:
        """The forecasts, a few trajectories at a time."""
        size = max(1, self.batch // len(plan.starts))
        for first in range(0, len(plan.trajectories), size):
            part = Plan(plan.trajectories[first : first + size], plan.starts, plan.stride, plan.steps)
            yield self.forecast(part)
            show(first + len(part.trajectories))

    @torch.inference_mode()
    def forecast(self, plan: Plan) -> xr.Dataset:
        """(trajectory, start, lead_time, y, x) fields of all output variables; missing points are NaN."""
        self._check_history(plan)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        samples = [(i, s) for i in plan.trajectories for s in plan.starts]
        try:
            parts = [
                self._samples(samples[first : first + self.batch], plan)
                for first in range(0, len(samples), self.batch)
            ]
        finally:
            torch.set_num_threads(before)
        values = np.concatenate(parts)
        shape = (len(plan.trajectories), len(plan.starts), *values.shape[1:])
        return dataset(self.store, plan, self.domain.outputs, values.reshape(shape))

    def _samples(self, samples: Sequence[tuple[int, int]], plan: Plan) -> Array:
        """(B, steps, C, H, W) in physical units."""
        device = distributed.device()
        initial = self._normalised([self._frame(i, s, self.prognostic) for i, s in samples], self.prognostic)
        static = self._normalised(
            [static_fields(self.store, i, self.static) for i, _ in samples], self.static
        )
        values = np.stack([scalars(self.store, i, self.domain.scalars) for i, _ in samples])
        scalars_BS = torch.as_tensor(values, device=device)

        def fields(step: int, variables: Sequence[Variable]) -> Tensor:
            frames = [self._frame(i, s + step * plan.stride, variables) for i, s in samples]
            return self._normalised(frames, variables).nan_to_num(0.0)

        def forcing(step: int) -> Tensor:
            return fields(step, self.forcing)

        history = [
            torch.cat([fields(-age, self.prognostic), static.nan_to_num(0.0), forcing(-age)], dim=1)
            for age in range(1, self.domain.frames)
        ]

        def network(fields_BCHW: Tensor, lead: Tensor) -> Tensor:
            told = context(self.signature, self.layout, scalars_BS, lead)
            seen = torch.cat([fields_BCHW, *history], dim=1) if history else fields_BCHW
            result: Tensor = self.network(seen, lead, told)
            return result

        def advance(fields_BCHW: Tensor) -> Tensor:
            frame = network(fields_BCHW, lead)
            history[:] = [fields_BCHW, *history][: len(history)]
            return frame

        step_lead = lead_times(self.store, plan)[0] / self.domain.time_scale
        self._check_lead(step_lead)
        lead = torch.full((len(samples),), step_lead, dtype=torch.float32, device=device)
        valid = torch.isfinite(initial)
        diagnostic = valid.new_ones(
            len(valid), len(self.domain.outputs) - len(self.prognostic), *valid.shape[2:]
        )
        start = initial.nan_to_num(0.0)
        if self.mode == "direct":
            inputs = torch.cat([start, static.nan_to_num(0.0), forcing(0)], dim=1)
            frames = [network(inputs, lead * (step + 1)) for step in range(plan.steps)]
        else:
            frames = list(
                rollout(
                    advance,
                    start,
                    static.nan_to_num(0.0),
                    forcing if self.forcing else None,
                    torch.cat([valid, diagnostic], dim=1),
                    plan.steps,
                )
            )
        forecasts = torch.stack(frames, dim=1).float().cpu().numpy()
        return self._physical(forecasts, valid.cpu().numpy())

    def _check_history(self, plan: Plan) -> None:
        first = (self.domain.frames - 1) * plan.stride
        if min(plan.starts) < first:
            raise DataError(
                f"{self.store.path}: the model sees {self.domain.frames} frames, {plan.stride} apart, so that "
                f"frame {first} is the first that it can start from, not {min(plan.starts)}: see starts.first"
            )

    def _check_lead(self, step_lead: float) -> None:
        if getattr(self.network, "one_step", False) and (self.mode == "direct" or abs(step_lead - 1) > 1e-6):
            raise DataError(
                f"the model knows one step of {self.domain.time_scale:g} {self.store.time_units} alone; the "
                f"forecast has steps of {step_lead * self.domain.time_scale:g} in mode {self.mode}: choose "
                "starts.stride so that they agree, and mode rollout"
            )

    def _physical(self, fields_BTCHW: Array, valid_BPHW: NDArray[np.bool_]) -> Array:
        stored: Array = self.domain.normalizer(self.domain.outputs).denormalize(fields_BTCHW)
        physical = transform.to_physical(stored, [variable.transform for variable in self.domain.outputs])
        count = len(self.prognostic)
        physical[:, :, :count][~np.broadcast_to(valid_BPHW[:, None], physical[:, :, :count].shape)] = np.nan
        return physical

    def _frame(self, trajectory: int, frame: int, variables: Sequence[Variable]) -> Array:
        """(C, H, W) of one frame as stored."""
        if not variables:
            return np.empty((0, *self.store.grid.shape), np.float32)
        return self.store.read(trajectory, frame, frame + 1)[0, channels(self.store, variables)]

    def _normalised(self, fields: Sequence[Array], variables: Sequence[Variable]) -> Tensor:
        normalised = self.domain.normalizer(variables).normalize(np.stack(fields))
        return torch.as_tensor(normalised, device=distributed.device())


def frames_of(store: Store, split: str) -> NDArray[np.bool_]:
    """(trajectory, time) which frames are in a split.

    Raises:
        DataError: the store has no such split, or no frame in it.
    """
    filled = [name for name, inside in store.splits.items() if inside.any()]
    if split not in filled:
        raise DataError(f"{store.path} has the splits {', '.join(filled)}, not {split!r}")
    return store.splits[split]


def is_steady(store: Store) -> bool:
    """Whether the store maps static fields to a solution without time."""
    return not with_role(store.variables, "prognostic")


def channels(store: Store, variables: Sequence[Variable]) -> list[int]:
    """The variables' positions in the store's state."""
    order = keys(store.variables)
    return [order.index(variable.key) for variable in variables]


def static_fields(store: Store, trajectory: int, variables: Sequence[Variable]) -> Array:
    """(C, H, W) of one trajectory."""
    if not variables:
        return np.empty((0, *store.grid.shape), np.float32)
    order = keys(store.static_variables)
    return store.static(trajectory)[[order.index(variable.key) for variable in variables]]


def scalars(store: Store, trajectory: int, names: Sequence[str]) -> NDArray[np.float64]:
    """(S,) parameters of one trajectory by name, NaN where it has none."""
    values = dict(zip(store.params, store.scalars(trajectory), strict=True))
    return np.array([values.get(name, np.nan) for name in names], dtype=np.float64)


def lead_times(store: Store, plan: Plan) -> NDArray[np.float64]:
    """(steps,) lead times in the store's units; 1 for a steady problem."""
    if is_steady(store):
        return np.ones(1)
    return np.arange(1, plan.steps + 1, dtype=np.float64) * (plan.stride * store.dt)


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


def dataset(store: Store, plan: Plan, variables: Sequence[Variable], values: Array) -> xr.Dataset:
    """(trajectory, start, lead_time, channel, y, x) values as a forecast with coordinates and attributes."""
    dims = ("trajectory", "start", "lead_time", "y", "x")
    grid = store.grid
    fields = {
        variable.key: (
            dims,
            values[:, :, :, channel],
            {"units": variable.units, "group": variable.score_group, "long_name": variable.long_name},
        )
        for channel, variable in enumerate(variables)
    }
    starts = np.array(plan.starts)
    coordinates: dict[str, Any] = {
        "trajectory": np.array(plan.trajectories),
        "start": starts,
        "lead_time": ("lead_time", lead_times(store, plan), {"units": store.time_units}),
        "y": ("y", grid.y, {"units": grid.units}),
        "x": ("x", grid.x, {"units": grid.units}),
        "initial_time": ("start", store.times[starts], {"units": store.time_units}),
    }
    return xr.Dataset(fields, coordinates, {"dataset": store.dataset, **grid.to_attrs()})


def truth(store: Store, plan: Plan, variables: Sequence[Variable]) -> xr.Dataset:
    """What the forecasts of a plan should have been."""
    frames = [0] if is_steady(store) else [plan.stride * step for step in range(1, plan.steps + 1)]
    return dataset(store, plan, variables, _read(store, plan, variables, frames))


def initial(store: Store, plan: Plan, variables: Sequence[Variable]) -> xr.Dataset:
    """(trajectory, start, y, x) frames that the forecasts of a plan start from."""
    values = _read(store, plan, variables, [0])
    first = Plan(plan.trajectories, plan.starts, plan.stride, 1)
    return dataset(store, first, variables, values).isel(lead_time=0, drop=True)


def _read(store: Store, plan: Plan, variables: Sequence[Variable], frames: Sequence[int]) -> Array:
    chosen = channels(store, variables)
    rows = [
        store.take(i, [s + frame for frame in frames])[:, chosen]
        for i in plan.trajectories
        for s in plan.starts
    ]
    values = transform.to_physical(np.stack(rows), [variable.transform for variable in variables])
    return values.reshape(len(plan.trajectories), len(plan.starts), *rows[0].shape)


def write(blocks: Iterator[xr.Dataset], path: Path) -> None:
    """Append blocks of trajectories to a Zarr store, which takes its name when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    for number, block in enumerate(blocks):
        if number == 0:
            block.to_zarr(partial, zarr_format=3, consolidated=False)
        else:
            block.to_zarr(partial, append_dim="trajectory", consolidated=False)
    if path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)


def read(path: Path) -> xr.Dataset:
    """Forecasts that `write` wrote, lazily."""
    kept: xr.Dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    return kept
