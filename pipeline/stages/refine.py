"""Refinement: forecasts drawn towards their equation by a last, spectral layer fitted to each of them.

Shapes: M frames, C channels, H rows, W columns.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from pydantic import Field
from torch import Tensor

from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.evaluation.forecast_zarr import write_forecast
from pelagos.evaluation.score_summary import json_values
from pelagos.evaluation.truth import read_initial, read_truth, scalar_values, static_fields
from pelagos.models.losses import channel_groups
from pelagos.models.spectral_head import Propagator, Refinement, refine
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.runs.run_inputs import store_checksum
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.files.durable import sole_writer, write_json
from pelagos.preprocessing.files.location import Folder, Location
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.equation_fit import check_fit
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable, keys

SOLENOIDAL = ("navier_stokes", "kolmogorov")
"""Equations whose velocity has no divergence, which refinement preserves."""


class RefineStage(Config):
    """Which forecasts to refine with which equation.

    Attributes:
        model: a folder, or models:/NAME@ALIAS of the registry.
        store: holds the frames that forecasts start from, and the truth where there is one.
        equation: what the data obey; its parameters are needed where the store has no scalars of those names.
        output: folder of `forecast.zarr`, `refined.zarr` and `refinement.json`.
        starts: which forecasts are made.
        truth: whether the store holds the frames that are forecast, by which errors are then told; without them
            refinement goes by the residual alone.
        name: of the run in MLflow; the output folder's by default.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for every lead time
            from the initial frame.
        dt: longest time step of the propagator; by default the equation chooses.
        window: frames that are refined together, all where null; short windows converge much sooner.
        evaluations: the most calls of the propagator for each window.
        threads: of the CPU; results are bit-identical only for the same number.
        tracking: where the registry is, and where the run is logged.
    """

    command: Literal["refine"] = "refine"
    model: str
    store: Location
    equation: Equation
    output: Folder
    starts: StartsConfig = StartsConfig(trajectories=4, steps=8)
    truth: bool = True
    name: str = ""
    mode: Mode = "rollout"
    dt: float | None = Field(default=None, gt=0)
    window: int | None = Field(default=4, gt=0)
    evaluations: int = Field(default=25, gt=0)
    threads: int = Field(default=2, gt=0)
    tracking: TrackingConfig = TrackingConfig()


def run(config: RefineStage) -> dict[str, Any]:
    """Refine the forecasts of a configuration, and say what the plain solver would have cost.

    Raises:
        ConfigError: the output folder holds another refinement, or the equation lacks a parameter.
        DataError: model and equation have different fields, or the store's grid or units are not the equation's.
        LockedError: another process writes to the output folder.
    """
    with sole_writer(config.output):
        return _refine(config)


def _refine(config: RefineStage) -> dict[str, Any]:
    store, equation = open_store(config.store), config.equation.build()
    _check_interval(store)
    plan = config.starts.plan(store, verified=config.truth)
    model = load(model_registry.resolve(config.model, config.tracking))
    _check_fields(model.domain(store.dataset).outputs, equation, store)
    check_fit(equation, store)
    run_folder.claim(config.output, config, run_folder.fingerprint(config))
    tracker = config.tracking.build(config.name or config.output.name, config.output)
    try:
        tracker.params(config.model_dump(mode="json"))
        costs = _write_refined(config, model, store, equation, plan)
        tracker.datasets({str(store.path): store_checksum(store)}, "refinement")
        tracker.metrics({f"refine/{name}": costs[name] for name in costs if name != "forecasts"}, 0)
        tracker.files(config.output / "refinement.json")
    except BaseException as error:
        # MLflow would show the run as running for ever.
        tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.close()
    return costs


def _check_interval(store: Store) -> None:
    if store.num_times == 1:
        raise DataError(
            f"{store.path} has one frame, so how far apart forecasts are is not known: refinement needs a store of"
            " two frames or more"
        )


def _write_refined(
    config: RefineStage, model: Model, store: Store, equation: PDE, plan: ForecastPlan
) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    forecast = Forecaster(model, store, config.mode, threads=config.threads).forecast(plan)
    forecast = forecast[list(keys(equation.variables))]
    refined, records = _refine_all(config, store, equation, plan, forecast)
    write_forecast(forecast, config.output / "forecast.zarr")
    write_forecast(refined, config.output / "refined.zarr")
    costs = _summarise_records(records)
    write_json(config.output / "refinement.json", json_values(costs))
    _print_costs(costs)
    return costs


def _check_fields(outputs: Sequence[Variable], equation: PDE, store: Store) -> None:
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


@dataclass(frozen=True, eq=False)
class Sample:
    """One forecast to refine, in float64.

    Attributes:
        index: position among trajectories and starts.
        forecast: (M, C, H, W) frames of the network.
        initial: (C, H, W) the frame that the forecast starts from.
        truth: (M, C, H, W) frames; None where it is not known.
        propagate: the equation over one step, with the trajectory's parameters.
    """

    index: dict[str, int]
    forecast: Tensor
    initial: Tensor
    truth: Tensor | None
    propagate: Propagator


def _refine_all(
    config: RefineStage, store: Store, equation: PDE, plan: ForecastPlan, forecast: xr.Dataset
) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """The refined forecasts, and errors and costs of each."""
    interval = plan.stride * store.dt
    refined, records = forecast.copy(deep=True).astype(np.float64), []
    with bar("refine", len(plan.trajectories) * len(plan.starts)) as show:
        for sample in _samples(config, store, equation, plan, forecast):
            result = _refine_one(config, equation, store.grid, sample, interval)
            records.append(_record(sample, result))
            for channel, name in enumerate(keys(equation.variables)):
                refined[name][sample.index] = result.frames[:, channel].numpy()
            told = "error" if config.truth else "residual"
            note = f"{told} {records[-1][f'{told}_before']:.2e} -> {records[-1][f'{told}_after']:.2e}"
            show(len(records), note)
    return refined, records


def _samples(
    config: RefineStage, store: Store, equation: PDE, plan: ForecastPlan, forecast: xr.Dataset
) -> Iterator[Sample]:
    truth = read_truth(store, plan, equation.variables) if config.truth else None
    initial = read_initial(store, plan, equation.variables)
    names = list(keys(equation.variables))
    for number, trajectory in enumerate(plan.trajectories):
        for start in range(len(plan.starts)):
            index = {"trajectory": number, "start": start}
            frames, known = (_tensor(data.isel(index), names) for data in (forecast, initial))
            exact = None if truth is None else _tensor(truth.isel(index), names)
            propagate = _propagator(equation, store, trajectory, plan.stride * store.dt, config.dt)
            yield Sample(index, frames, known, exact, propagate)


def _propagator(
    equation: PDE, store: Store, trajectory: int, interval: float, dt: float | None
) -> Propagator:
    """The equation with this trajectory's static fields and scalars."""
    static = static_fields(store, trajectory, equation.static_variables)
    values = scalar_values(store, trajectory, equation.scalars)
    missing = [name for name, value in zip(equation.scalars, values, strict=True) if not np.isfinite(value)]
    if missing:
        raise ConfigError(f"{store.path}: trajectory {trajectory} has no value of {', '.join(missing)}")
    # In float32 the residual would drown in rounding: the solver's step divides a small difference by dt.
    static_1CHW, scalars_1S = torch.from_numpy(static).double()[None], torch.from_numpy(values)[None]
    return lambda fields: equation.propagate(fields, static_1CHW, scalars_1S, interval, dt)


def _refine_one(
    config: RefineStage, equation: PDE, grid: Grid, sample: Sample, interval: float
) -> Refinement:
    names = keys(equation.variables)
    solenoidal = equation.kind in SOLENOIDAL
    velocity = ((names.index("velocity_x"), names.index("velocity_y")),) if solenoidal else ()
    return refine(
        sample.forecast,
        sample.initial,
        sample.propagate,
        interval,
        grid,
        groups=channel_groups(equation.variables),
        window=config.window,
        max_evaluations=config.evaluations,
        velocity=velocity,
    )


def _record(sample: Sample, result: Refinement) -> dict[str, Any]:
    """Costs of one refined forecast, and of the plain solver from the same frame; errors where the truth is known."""
    solved, solver_seconds = _solve(sample.propagate, sample.initial, len(sample.forecast))
    errors = {}
    if sample.truth is not None:
        errors = {
            "error_before": _relative_l2(sample.forecast, sample.truth),
            "error_after": _relative_l2(result.frames, sample.truth),
            "solver_error": _relative_l2(solved, sample.truth),
        }
    return {
        **errors,
        "residual_before": result.residual_before,
        "residual_after": result.residual_after,
        "accepted": result.accepted,
        "evaluations": result.evaluations,
        "refine_seconds": result.seconds,
        "solver_seconds": solver_seconds,
    }


def _solve(propagate: Propagator, initial_CHW: Tensor, steps: int) -> tuple[Tensor, float]:
    """(M, C, H, W) the plain solver's frames from the initial one, and the seconds they take."""
    started = time.perf_counter()
    frames, state = [], initial_CHW[None]
    with torch.inference_mode():
        for _ in range(steps):
            state = propagate(state)
            frames.append(state[0])
    return torch.stack(frames), time.perf_counter() - started


def _relative_l2(frames_MCHW: Tensor, exact_MCHW: Tensor) -> float:
    """Over all frames and fields of one forecast."""
    return float((frames_MCHW.double() - exact_MCHW).norm() / exact_MCHW.norm())


def _summarise_records(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over forecasts of relative L2 errors, and mean seconds for each forecast."""
    medians = ("error_before", "error_after", "residual_before", "residual_after", "solver_error")
    known = [name for name in medians if name in records[0]]
    summary: dict[str, Any] = {name: statistics.median(r[name] for r in records) for name in known}
    for name in ("refine_seconds", "solver_seconds"):
        summary[name] = statistics.fmean(r[name] for r in records)
    return {**summary, "accepted": sum(r["accepted"] for r in records), "forecasts": records}


def _tensor(dataset: xr.Dataset, names: list[str]) -> Tensor:
    """([M,] C, H, W) float64."""
    arrays = [torch.from_numpy(np.ascontiguousarray(dataset[name].values)).double() for name in names]
    return torch.stack(arrays, dim=-3)


def _print_costs(costs: dict[str, Any]) -> None:
    known = "error_before" in costs
    told, what = ("error", "relative L2 error") if known else ("residual", "relative residual")
    solver = f" and has error {costs['solver_error']:.3g}" if known else ""
    print(
        f"refinement: {what} {costs[f'{told}_before']:.3g} -> {costs[f'{told}_after']:.3g}"
        f" in {costs['refine_seconds']:.2f} s a forecast; the plain solver takes"
        f" {costs['solver_seconds']:.2f} s{solver}"
    )
