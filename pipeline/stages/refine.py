"""Refinement: forecasts drawn towards their equation, every Fourier coefficient of every frame being free.

Shapes: N forecasts of a batch, M frames, C channels, H rows, W columns.
"""

import statistics
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
from pelagos.evaluation.truth import read_initial, read_truth
from pelagos.models.refinement.refine import Refinement, refine
from pelagos.models.refinement.step_problem import SobolevWeight, StepProblem
from pelagos.pipeline.forecasting.equation_inputs import EquationInputs
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.plain_solver import solve
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.runs.run_inputs import store_checksum
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.durable import sole_writer, write_json
from pelagos.preprocessing.files.location import Folder, Location
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.equation_fit import EquationFit, check_fit
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable, keys


class RefineStage(Config):
    """Which forecasts to refine with which equation.

    Attributes:
        model: a folder, or models:/NAME@ALIAS of the registry.
        store: holds the frames that forecasts start from, and the truth where there is one.
        equation: what the data obey; numbers that it sets stand in for scalars that the store lacks.
        output: folder of `forecast.zarr`, `refined.zarr` and `refinement.json`.
        starts: which forecasts are made.
        truth: whether the store holds the frames that are forecast, by which errors are then told; without them
            refinement goes by the residual alone.
        name: of the run in MLflow; the output folder's by default.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for every lead time
            from the initial frame.
        dt: longest time step of the propagator; by default the equation chooses.
        weight: the norm of residuals; L2 by default, `{exponent: -1}` for H^-1.
        window: frames that are refined together, all where null; short windows converge sooner.
        evaluations: the most calls of the propagator for each window.
        tolerance: the relative residual at which a window is done.
        batch: forecasts refined together.
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
    weight: SobolevWeight = SobolevWeight()
    window: int | None = Field(default=5, gt=0)
    evaluations: int = Field(default=12, gt=0)
    tolerance: float = Field(default=1e-5, ge=0)
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    tracking: TrackingConfig = TrackingConfig()


def run(config: RefineStage) -> dict[str, Any]:
    """Refine the forecasts of a configuration, and say what the plain solver would have cost.

    Raises:
        ConfigError: the output folder holds another refinement.
        DataError: model and equation have different fields, the store's grid or units are not the equation's, or a
            parameter is not known.
        LockedError: another process writes to the output folder.
    """
    with sole_writer(config.output):
        return _refine(config)


def _refine(config: RefineStage) -> dict[str, Any]:
    store, equation = open_store(config.store), config.equation.build()
    _check_interval(store)
    plan = config.starts.plan(store, verified=config.truth)
    model = load(model_registry.resolve(config.model, config.tracking))
    _check_fields(model.domain(store.dataset).outputs, equation)
    work = _Work(config, store, equation, check_fit(equation, store), plan)
    run_folder.claim(config.output, config, run_folder.fingerprint(config))
    tracker = config.tracking.build(config.name or config.output.name, config.output)
    try:
        tracker.params(config.model_dump(mode="json"))
        costs = _write_refined(work, model)
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


def _check_fields(outputs: Sequence[Variable], equation: PDE) -> None:
    missing = [key for key in keys(equation.variables) if key not in keys(outputs)]
    if missing:
        raise DataError(
            f"the model does not forecast {', '.join(missing)}, which the {equation.kind} equation needs"
        )


def _write_refined(work: "_Work", model: Model) -> dict[str, Any]:
    config, names = work.config, list(keys(work.equation.variables))
    torch.set_num_threads(config.threads)
    forecast = Forecaster(model, work.store, config.mode, threads=config.threads).forecast(work.plan)[names]
    refined, records = _refine_all(work, forecast)
    write_forecast(forecast, config.output / "forecast.zarr")
    write_forecast(refined, config.output / "refined.zarr")
    costs = _summarise_records(records)
    write_json(config.output / "refinement.json", json_values(costs))
    _print_costs(costs)
    return costs


@dataclass(frozen=True, eq=False)
class _Work:
    """What is refined.

    Attributes:
        config: how.
        store: holds initial frames, truth and parameters.
        equation: what the data obey.
        fit: the store's grid and times as the equation takes them.
        plan: the forecasts.
    """

    config: RefineStage
    store: Store
    equation: PDE
    fit: EquationFit
    plan: ForecastPlan

    @property
    def interval(self) -> float:
        """Between frames, in the equation's unit of time."""
        return self.plan.stride * self.store.dt * self.fit.time


@dataclass(frozen=True, eq=False)
class _Batch:
    """Some forecasts, in float64.

    Attributes:
        places: of each, its positions among trajectories and starts.
        forecast: (N, M, C, H, W) frames of the network.
        initial: (N, C, H, W) the frames that the forecasts start from.
        truth: (N, M, C, H, W) frames; None where they are not known.
        problem: the equation between frames.
    """

    places: list[dict[str, int]]
    forecast: Tensor
    initial: Tensor
    truth: Tensor | None
    problem: StepProblem


def _batches(work: _Work, forecast: xr.Dataset) -> Iterator[_Batch]:
    plan, equation = work.plan, work.equation
    truth = read_truth(work.store, plan, equation.variables) if work.config.truth else None
    initial = read_initial(work.store, plan, equation.variables)
    names = list(keys(equation.variables))
    places = [
        {"trajectory": number, "start": start}
        for number in range(len(plan.trajectories))
        for start in range(len(plan.starts))
    ]
    for first in range(0, len(places), work.config.batch):
        some = places[first : first + work.config.batch]
        frames, known = _tensor(forecast, names, some), _tensor(initial, names, some)
        exact = None if truth is None else _tensor(truth, names, some)
        yield _Batch(some, frames, known, exact, _problem(work, some, frames))


def _problem(work: _Work, places: list[dict[str, int]], frames_NMCHW: Tensor) -> StepProblem:
    trajectories = [work.plan.trajectories[place["trajectory"]] for place in places]
    inputs = EquationInputs.of(work.config.equation, work.equation, work.store, trajectories)
    # In float32 the residual would drown in rounding: a step changes a frame by little.
    static, scalars = torch.from_numpy(inputs.static), torch.from_numpy(inputs.scalars)
    config = work.config
    return StepProblem.of(
        work.equation, work.fit.grid, frames_NMCHW, static, scalars, work.interval, config.dt, config.weight
    )


def _refine_all(work: _Work, forecast: xr.Dataset) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """The refined forecasts, and errors and costs of each."""
    refined, records = forecast.copy(deep=True).astype(np.float64), list[dict[str, Any]]()
    config, plan = work.config, work.plan
    with bar("refine", len(plan.trajectories) * len(plan.starts)) as show:
        for batch in _batches(work, forecast):
            result = refine(
                batch.forecast,
                batch.initial,
                batch.problem,
                window=config.window,
                max_evaluations=config.evaluations,
                tolerance=config.tolerance,
            )
            records += _records(batch, result)
            for place, frames in zip(batch.places, result.frames, strict=True):
                for channel, name in enumerate(keys(work.equation.variables)):
                    refined[name][place] = frames[:, channel].numpy()
            told = "error" if config.truth else "residual"
            note = f"{told} {records[-1][f'{told}_before']:.2e} -> {records[-1][f'{told}_after']:.2e}"
            show(len(records), note)
    return refined, records


def _records(batch: _Batch, result: Refinement) -> list[dict[str, Any]]:
    """Costs of each forecast, and of the plain solver from the same frame; errors where the truth is known."""
    solved, solver_seconds = solve(batch.problem, batch.initial, batch.forecast.shape[1])
    values = {"residual_before": result.residual_before, "residual_after": result.residual_after}
    if batch.truth is not None:
        named = {"error_before": batch.forecast, "error_after": result.frames, "solver_error": solved}
        values |= {name: _relative_l2(frames, batch.truth) for name, frames in named.items()}
        values["residual_of_truth"] = batch.problem.relative_residual(batch.truth, batch.initial)
    count = len(batch.places)
    shared = {
        "evaluations": result.evaluations,
        "refine_seconds": result.cpu_seconds / count,
        "solver_seconds": solver_seconds / count,
    }
    return [
        {name: float(of_all[n]) for name, of_all in values.items()}
        | {"accepted": bool(result.accepted[n]), **shared}
        for n in range(count)
    ]


def _relative_l2(frames_NMCHW: Tensor, exact_NMCHW: Tensor) -> Tensor:
    """(N,) over all frames and fields of a forecast."""
    error, size = (values.flatten(1).norm(dim=1) for values in (frames_NMCHW - exact_NMCHW, exact_NMCHW))
    relative_N: Tensor = error / size
    return relative_N


def _summarise_records(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over forecasts of relative L2 errors and residuals, and mean seconds for each forecast."""
    means = ("refine_seconds", "solver_seconds")
    medians = [name for name, value in records[0].items() if isinstance(value, float) and name not in means]
    summary: dict[str, Any] = {name: statistics.median(r[name] for r in records) for name in medians}
    summary |= {name: statistics.fmean(r[name] for r in records) for name in means}
    return {**summary, "accepted": sum(r["accepted"] for r in records), "forecasts": records}


def _tensor(dataset: xr.Dataset, names: list[str], places: list[dict[str, int]]) -> Tensor:
    """(N, [M,] C, H, W) float64."""

    def one(place: dict[str, int]) -> Tensor:
        arrays = [np.ascontiguousarray(dataset[name].isel(place).values) for name in names]
        return torch.stack([torch.from_numpy(array).double() for array in arrays], dim=-3)

    return torch.stack([one(place) for place in places])


def _print_costs(costs: dict[str, Any]) -> None:
    known = "error_before" in costs
    told, what = ("error", "relative L2 error") if known else ("residual", "relative residual")
    solver = f" and has error {costs['solver_error']:.3g}" if known else ""
    print(
        f"refinement: {what} {costs[f'{told}_before']:.3g} -> {costs[f'{told}_after']:.3g}"
        f" in {costs['refine_seconds']:.2f} CPU s a forecast; the plain solver takes"
        f" {costs['solver_seconds']:.2f} CPU s{solver}"
    )
    if known:
        print(
            f"residual: {costs['residual_before']:.3g} -> {costs['residual_after']:.3g}; of the truth itself"
            f" {costs['residual_of_truth']:.3g}, below which refinement fits the solver rather than the data"
        )
    print(f"accepted: {costs['accepted']} of {len(costs['forecasts'])}; the others' residual did not fall")
