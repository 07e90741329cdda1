"""Refinement: forecasts drawn towards their equation by a last, spectral layer fitted to each of them."""

import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.models.losses import channel_groups
from pelagos.models.spectral_head import Propagator, Refinement, refine
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.model_folder import load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.stages import forecast as forecasts
from pelagos.pipeline.stages.forecast import Forecaster, StartsConfig
from pelagos.pipeline.tracking import registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.durable import write_json
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.location import Folder, Location
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import keys


class RefineStage(Config):
    """Which forecasts to refine with which equation.

    Attributes:
        model: a folder, or models:/NAME@ALIAS of the registry.
        store: holds the frames that forecasts start from, and the truth.
        equation: what the data obey, with parameters as far as the store has no scalars of their names.
        output: folder of `forecast.zarr`, `refined.zarr` and `refinement.json`.
        dt: longest time step of the propagator, by default the equation's own choice.
        window: frames that are refined together, all where null; short windows converge much sooner.
        evaluations: of the propagator, at most, a window.
        mode: how the model makes the forecasts.
    """

    command: Literal["refine"] = "refine"
    model: str
    store: Location
    equation: Equation
    output: Folder
    starts: StartsConfig = StartsConfig(trajectories=4, steps=8)
    mode: Literal["rollout", "direct"] = "rollout"
    dt: float | None = Field(default=None, gt=0)
    window: int | None = Field(default=4, gt=0)
    evaluations: int = Field(default=25, gt=0)
    threads: int = Field(default=2, gt=0)
    tracking: TrackingConfig = TrackingConfig()


def run(config: RefineStage) -> dict[str, Any]:
    """Refine the forecasts of a configuration, and say what the plain solver would have cost.

    Raises:
        ConfigError: the output folder holds another refinement.
        DataError: model and equation have different fields, or the grid is not periodic.
    """
    store, equation = open_store(config.store), config.equation.build()
    plan = config.starts.plan(store)
    model = load(registry.resolve(config.model, config.tracking))
    _check_fields(model.domain(store.dataset).outputs, equation, store)
    run_folder.claim(config.output, config, run_folder.fingerprint(config))
    torch.set_num_threads(config.threads)
    before = Forecaster(model, store, config.mode, threads=config.threads).forecast(plan)
    truth = forecasts.truth(store, plan, equation.variables)
    initial = forecasts.initial(store, plan, equation.variables)
    names = list(keys(equation.variables))
    interval = plan.stride * store.dt
    records, refined = [], before[names].copy(deep=True).astype(np.float64)
    samples = [(i, s) for i in range(len(plan.trajectories)) for s in range(len(plan.starts))]
    with bar("refine", len(samples)) as show:
        for number, (i, s) in enumerate(samples):
            chosen = {"trajectory": i, "start": s}
            frames, known, exact = (_tensor(d.isel(chosen), names) for d in (before, initial, truth))
            propagate = _propagator(equation, store, plan.trajectories[i], interval, config.dt)
            result = _refine_one(config, store, equation, frames, known, propagate, interval)
            solved, solver_seconds = _solve(propagate, known, plan.steps)
            records.append(_record(frames, exact, result, solved, solver_seconds))
            for channel, name in enumerate(names):
                refined[name][chosen] = result.frames[:, channel].numpy()
            show(number + 1, f"error {records[-1]['error_before']:.2e} -> {records[-1]['error_after']:.2e}")
    for name, data in (("forecast", before[names]), ("refined", refined)):
        forecasts.write(iter([data]), config.output / f"{name}.zarr")
    summary = _summary(records)
    write_json(config.output / "refinement.json", summary)
    _print(summary)
    return summary


def _check_fields(outputs: Any, equation: PDE, store: Store) -> None:
    missing = [key for key in keys(equation.variables) if key not in keys(outputs)]
    if missing:
        raise DataError(
            f"the model does not forecast {', '.join(missing)}, which the {equation.kind} equation needs"
        )
    absent = [key for key in keys(equation.static_variables) if key not in keys(store.static_variables)]
    if absent:
        raise DataError(
            f"{store.path} lacks the static fields {', '.join(absent)} of the {equation.kind} equation"
        )


def _propagator(
    equation: PDE, store: Store, trajectory: int, interval: float, dt: float | None
) -> Propagator:
    """The equation with this trajectory's static fields and scalars."""
    static = forecasts.static_fields(store, trajectory, equation.static_variables)
    values = forecasts.scalars(store, trajectory, equation.scalars)
    missing = [name for name, value in zip(equation.scalars, values, strict=True) if not np.isfinite(value)]
    if missing:
        raise ConfigError(f"{store.path}: trajectory {trajectory} has no value of {', '.join(missing)}")
    static_1CHW, scalars_1S = torch.from_numpy(static).double()[None], torch.from_numpy(values)[None]
    return lambda fields: equation.propagate(fields, static_1CHW, scalars_1S, interval, dt)


def _refine_one(
    config: RefineStage,
    store: Store,
    equation: PDE,
    frames: Tensor,
    known: Tensor,
    propagate: Propagator,
    interval: float,
) -> Refinement:
    names = keys(equation.variables)
    flow = ("velocity_x", "velocity_y")
    solenoidal = equation.kind in ("navier_stokes", "kolmogorov")
    pairs = ((names.index(flow[0]), names.index(flow[1])),) if solenoidal else ()
    return refine(
        frames,
        known,
        propagate,
        interval,
        store.grid,
        groups=channel_groups(equation.variables),
        window=config.window,
        max_evaluations=config.evaluations,
        velocity=pairs,
    )


def _solve(propagate: Callable[[Tensor], Tensor], known: Tensor, steps: int) -> tuple[Tensor, float]:
    """What the plain solver makes of the known state, and the seconds that it takes."""
    started = time.perf_counter()
    frames, state = [], known[None]
    with torch.inference_mode():
        for _ in range(steps):
            state = propagate(state)
            frames.append(state[0])
    return torch.stack(frames), time.perf_counter() - started


def _record(
    frames: Tensor, exact: Tensor, result: Refinement, solved: Tensor, solver_seconds: float
) -> dict[str, Any]:
    return {
        "error_before": _relative_l2(frames, exact),
        "error_after": _relative_l2(result.frames, exact),
        "residual_before": result.residual_before,
        "residual_after": result.residual_after,
        "accepted": result.accepted,
        "evaluations": result.evaluations,
        "refine_seconds": result.seconds,
        "solver_error": _relative_l2(solved, exact),
        "solver_seconds": solver_seconds,
    }


def _relative_l2(frames: Tensor, exact: Tensor) -> float:
    """Over all frames and fields of one forecast."""
    return float((frames.double() - exact).norm() / exact.norm())


def _summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over forecasts of relative L2 errors, and mean seconds a forecast."""
    medians = ("error_before", "error_after", "residual_before", "residual_after", "solver_error")
    summary: dict[str, Any] = {name: statistics.median(r[name] for r in records) for name in medians}
    for name in ("refine_seconds", "solver_seconds"):
        summary[name] = statistics.fmean(r[name] for r in records)
    return {**summary, "accepted": sum(r["accepted"] for r in records), "forecasts": records}


def _tensor(dataset: Any, names: list[str]) -> Tensor:
    """([M,] C, H, W) float64."""
    arrays = [torch.from_numpy(np.ascontiguousarray(dataset[name].values)).double() for name in names]
    return torch.stack(arrays, dim=-3)


def _print(summary: dict[str, Any]) -> None:
    print(
        f"refinement: relative L2 error {summary['error_before']:.3g} -> {summary['error_after']:.3g}"
        f" in {summary['refine_seconds']:.2f} s a forecast; the plain solver takes"
        f" {summary['solver_seconds']:.2f} s and has error {summary['solver_error']:.3g}"
    )
