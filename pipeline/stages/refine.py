"""Refinement: forecasts drawn towards their equation, every Fourier coefficient of every frame being free."""

import math
import time
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
import xarray as xr
from pydantic import Field, model_validator

from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.evaluation.forecast_zarr import write_forecast
from pelagos.evaluation.score_summary import json_values
from pelagos.models.refinement.amortised_head import apply_head, train_head
from pelagos.models.refinement.minimal_residual import refine
from pelagos.models.refinement.spectral_head import SpectralHead
from pelagos.models.refinement.step_problem import SobolevWeight
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.refinement_batches import EquationOfStore, refinement_batches
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.runs.run_inputs import store_checksum
from pelagos.pipeline.stages.refinement_costs import cost_lines, progress_of, records_of, summarise
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.durable import sole_writer, write_json
from pelagos.preprocessing.files.location import Folder, Location
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable, keys


class HeadConfig(Config):
    """A filter of Fourier coefficients for all forecasts, trained on some of another split without their truth.

    Attributes:
        split: of the training forecasts.
        trajectories: how many of them.
        passes: of Gauss and Newton; training ends before where the residual no longer falls.
    """

    split: str = "train"
    trajectories: int = Field(default=8, gt=0)
    passes: int = Field(default=4, gt=0)


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
        head: a filter that forecasts go through first, with settings of its own; none where null.
        window: frames that are refined together, all where null; short windows converge sooner.
        evaluations: the most calls of the propagator for each window; 0 leaves it at the head.
        tolerance: the relative residual at which a window is done.
        compare: `released` also tells the loss released with Spectral-Refiner, of incompressible flow.
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
    head: HeadConfig | None = None
    window: int | None = Field(default=5, gt=0)
    evaluations: int = Field(default=12, ge=0)
    tolerance: float = Field(default=1e-5, ge=0)
    compare: tuple[Literal["released"], ...] = ()
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        flows = ("navier_stokes", "kolmogorov")
        if self.compare and self.equation.kind not in flows:
            raise ValueError(
                f"compare: the released loss is of {' and '.join(flows)}, not of {self.equation.kind}"
            )
        return self


def run(config: RefineStage) -> dict[str, Any]:
    """Refine the forecasts of a configuration, and say what the plain solver would have cost.

    Raises:
        ConfigError: the output folder holds another refinement.
        DataError: model and equation have different fields, the store's grid or units are not the equation's, or a
            parameter is not known, or a forecast starts from missing values.
        LockedError: another process writes to the output folder.
    """
    with sole_writer(config.output):
        return _refine(config)


def _refine(config: RefineStage) -> dict[str, Any]:
    store = open_store(config.store)
    plan = config.starts.plan(store, verified=config.truth)
    # Before the store's values are read: whether the model is to be trusted is asked first.
    model = load(model_registry.resolve(config.model, config.tracking))
    work, notes = prepare(config, store, plan)
    check_fields(model.domain(store.dataset).outputs, work.equation)
    for note in notes:
        say(f"note: {note}")
    run_folder.claim(config.output, config, run_folder.fingerprint(config))
    tracker = config.tracking.build(config.name or config.output.name, config.output)
    try:
        tracker.params(config.model_dump(mode="json"))
        costs = _write_refined(config, work, plan, model)
        tracker.datasets({str(store.path): store_checksum(store)}, "refinement")
        figures = {name: value for name, value in costs.items() if name != "forecasts"}
        tracker.metrics({f"refine/{n}": value for n, value in figures.items() if math.isfinite(value)}, 0)
        tracker.files(config.output / "refinement.json")
    except BaseException as error:
        # MLflow would show the run as running for ever.
        tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.close()
    return costs


def prepare(config: RefineStage, store: Store, plan: ForecastPlan) -> tuple[EquationOfStore, list[str]]:
    """The equation on the store, and notes on its parameters: all that may be refused without the model.

    Raises:
        DataError: a forecast cannot be propagated, or one that the head is trained on.
    """
    _check_interval(store)
    work = EquationOfStore.of(config.equation, store, config.dt, config.weight)
    notes = work.check(plan)
    if config.head is not None:
        training = _training_plan(config, config.head, store)
        notes += [note for note in work.check(training) if note not in notes]
        if (found := len(training.trajectories)) < config.head.trajectories:
            notes.append(
                f"head.trajectories: split {config.head.split} has {found}, from which the head learns, not"
                f" {config.head.trajectories}"
            )
    return work, notes


def _training_plan(config: RefineStage, head: HeadConfig, store: Store) -> ForecastPlan:
    """As many steps from another split."""
    starts = config.starts.model_copy(update={"split": head.split, "trajectories": head.trajectories})
    return starts.plan(store, verified=False)


def _check_interval(store: Store) -> None:
    if store.num_times == 1:
        raise DataError(
            f"{store.path} has one frame, so how far apart forecasts are is not known: refinement needs a store of"
            " two frames or more"
        )


def check_fields(outputs: Sequence[Variable], equation: PDE) -> None:
    """Refuse a model that does not forecast all fields of an equation.

    Raises:
        DataError: names those that it does not.
    """
    missing = [key for key in keys(equation.variables) if key not in keys(outputs)]
    if missing:
        raise DataError(
            f"the model does not forecast {', '.join(missing)}, which the {equation.kind} equation needs"
        )


def _write_refined(
    config: RefineStage, work: EquationOfStore, plan: ForecastPlan, model: Model
) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    forecaster = Forecaster(model, work.store, config.mode, threads=config.threads)
    head, training = None, dict[str, float]()
    if config.head is not None:
        head, training = _train_head(config, config.head, work, forecaster)
    forecast = _forecast(work, forecaster, plan)
    refined, records = _refine_all(config, work, plan, forecast, head)
    write_forecast(forecast, config.output / "forecast.zarr")
    write_forecast(refined, config.output / "refined.zarr")
    costs = training | summarise(records, truth=config.truth)
    write_json(config.output / "refinement.json", json_values(costs))
    print("\n".join(cost_lines(costs)))
    return costs


def _forecast(work: EquationOfStore, forecaster: Forecaster, plan: ForecastPlan) -> xr.Dataset:
    return forecaster.forecast(plan)[list(keys(work.equation.variables))]


def _train_head(
    config: RefineStage, head: HeadConfig, work: EquationOfStore, forecaster: Forecaster
) -> tuple[SpectralHead, dict[str, float]]:
    """A head trained on forecasts of as many steps from another split, and the processor seconds of that.

    Raises:
        DataError: one of these has no residual, and so all of them together have none.
    """
    # With the network's forecasts, which nothing but the head needs.
    started = time.process_time()
    others = _training_plan(config, head, work.store)
    batches = refinement_batches(
        work, others, _forecast(work, forecaster, others), config.batch, with_truth=False
    )
    samples = [batch.forecasts for batch in batches]
    trained, history = train_head(samples, head.passes)
    seconds = time.process_time() - started
    if not math.isfinite(history[0]):
        raise DataError(
            f"head: forecasts of split {head.split} fail: they, or what the solver makes of them, are not finite, so"
            " that no filter can be learnt: choose fewer starts.steps, or no head"
        )
    print(
        f"head: residual of {head.split} {history[0]:.3g} -> {history[-1]:.3g} in {len(history) - 1} passes"
    )
    number = sum(len(batch.frames) for batch in samples)
    return trained, {"head_training_seconds": seconds, "head_training_seconds_each": seconds / number}


def _refine_all(
    config: RefineStage,
    work: EquationOfStore,
    plan: ForecastPlan,
    forecast: xr.Dataset,
    head: SpectralHead | None,
) -> tuple[xr.Dataset, list[dict[str, Any]]]:
    """The refined forecasts, and errors and costs of each."""
    refined, records = forecast.copy(deep=True).astype(np.float64), list[dict[str, Any]]()
    with bar("refine", len(plan.trajectories) * len(plan.starts)) as show:
        for batch in refinement_batches(work, plan, forecast, config.batch, config.truth):
            given = batch.forecasts
            started = time.process_time()
            filtered = None if head is None else apply_head(head, given)
            filtering = time.process_time() - started
            result = refine(
                given.frames,
                given.anchor,
                given.problem,
                start_NMCHW=filtered,
                window=config.window,
                max_evaluations=config.evaluations,
                tolerance=config.tolerance,
            )
            compared = {
                f"{name}_{when}": work.released(plan, batch.places, frames)
                for name in config.compare
                for when, frames in (("before", given.frames), ("after", result.frames))
            }
            records += records_of(batch, result, filtered, filtering, compared)
            for place, frames in zip(batch.places, result.frames, strict=True):
                for channel, name in enumerate(keys(work.equation.variables)):
                    refined[name][place] = frames[:, channel].numpy()
            show(len(records), progress_of(records[-1]))
    return refined, records
