"""Evaluation: forecasts of several models on one store, scored beside baselines."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.evaluation.report.evaluation_report import evaluation_report
from pelagos.evaluation.score_summary import describe_failures, describe_left_out, groups_of, json_values
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation, evaluate_forecasts
from pelagos.pipeline.forecasting.forecast_file import write_forecasts
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.domain_fit import fit
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.runs.progress import Bar, bar
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.files.durable import sole_writer, write_json
from pelagos.preprocessing.files.location import Folder, Location
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable


class EvaluateStage(Config):
    """What to score against what.

    Attributes:
        models: name in the report -> a folder, or models:/NAME@ALIAS of the registry.
        store: the truth.
        output: folder of the forecasts (`forecasts/NAME.zarr`), `scores.json` and `report.html`.
        starts: which forecasts are made.
        baselines: `persistence` repeats the initial frame; `linear_extrapolation` goes on as in the step before it;
            `climatology` is the mean over the training split by hour of the day; `stencil` is a linear map of each
            point's neighbourhood, fitted to the training split.
        training: the split that baselines are fitted to.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for every lead time
            from the initial frame.
        batch: forecasts computed together.
        threads: of the CPU; results are bit-identical only for the same number.
        title: of the report.
        pictures: which sample the report shows.
        tracking: where the registry is.
    """

    command: Literal["evaluate"] = "evaluate"
    models: dict[str, str] = Field(min_length=1)
    store: Location
    output: Folder
    starts: StartsConfig = StartsConfig()
    baselines: tuple[BaselineName, ...] = ("persistence",)
    training: str = "train"
    mode: Mode = "rollout"
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    title: str = "Evaluation"
    pictures: int = Field(default=0, ge=0)
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _distinct_methods(self) -> "EvaluateStage":
        if TRUTH in self.models:
            raise ValueError(f"models: {TRUTH} is what they are held against; give the model another name")
        if clash := sorted(set(self.models) & set(self.baselines)):
            raise ValueError(f"models: {', '.join(clash)} is the name of a baseline; give the model another")
        return self


def run(config: EvaluateStage) -> Evaluation:
    """Make the forecasts, score them, and write the report.

    Raises:
        ConfigError: the output folder holds another evaluation.
        DataError: a model does not know the store, or no forecast fits into the split.
        LockedError: another process writes to the output folder.
    """
    with sole_writer(config.output):
        return _evaluate(config)


def _evaluate(config: EvaluateStage) -> Evaluation:
    store = open_store(config.store)
    plan = config.starts.plan(store)
    models = {name: load_model(config, name) for name in config.models}
    run_folder.claim(config.output, config, run_folder.fingerprint(config))
    forecasters = {
        name: Forecaster(model, store, config.mode, config.batch, config.threads, f"model {name}")
        for name, model in models.items()
    }
    for forecaster in forecasters.values():
        forecaster.warn(plan)
    forecasts = len(plan.trajectories) * len(plan.starts)
    with bar("evaluate", len(models) * forecasts) as show:
        for number, (name, forecaster) in enumerate(forecasters.items()):
            count = partial(_show_progress, show, number * forecasts, name)
            write_forecasts(forecaster, plan, forecast_path(config, name), {}, show=count)
    evaluation = evaluation_of(config, store, plan, models)
    write_json(config.output / "scores.json", json_values(evaluation.scores))
    evaluation_report(config.title, evaluation).write(config.output / "report.html")
    _print_scores(evaluation)
    return evaluation


def load_model(config: EvaluateStage, name: str) -> Model:
    """One of the models of a configuration."""
    return load(model_registry.resolve(config.models[name], config.tracking))


def _show_progress(show: Bar, before: int, name: str, done: int) -> None:
    show(before + done, name)


def forecast_path(config: EvaluateStage, name: str) -> Path:
    """Where the forecasts of a model are written."""
    return config.output / "forecasts" / f"{name}.zarr"


def evaluation_of(
    config: EvaluateStage, store: Store, plan: ForecastPlan, models: Mapping[str, Model]
) -> Evaluation:
    """Score the forecasts of models on disk, and the baselines, for all variables that one of the models has."""
    forecasts = {name: read_forecasts(forecast_path(config, name)) for name in models}
    domains = {name: model.domain(store.dataset) for name, model in models.items()}
    variables: dict[str, Variable] = {}
    for domain in domains.values():
        variables = {variable.key: variable for variable in domain.outputs} | variables
    facts = {
        name: {"model": config.models[name], "horizon": fit(domain, store, ()).horizon}
        for name, domain in domains.items()
    }
    return evaluate_forecasts(
        forecasts,
        store,
        plan,
        list(variables.values()),
        config.baselines,
        config.training,
        facts,
        config.pictures,
    )


def _print_scores(evaluation: Evaluation) -> None:
    methods = evaluation.scores["methods"]
    width = max(len(name) for name in (*methods, "median relative L1"))
    print(
        f"{'median relative L1':<{width}}  one step  rollout  (normalised)       "
        "pooled relative L2 of one step  failed"
    )
    for name, values in methods.items():
        normalised, pooled = values["normalised"], values["pooled_relative_l2"][0]
        print(
            f"{name:<{width}}  {values['one_step']:8.4f} {values['rollout']:8.4f}"
            f"  ({normalised['one_step']:.4f} {normalised['rollout']:.4f})"
            f"  {pooled:8.4f}  {describe_failures(values)}"
        )
    print(f"\nRMSE at the first lead time: {', '.join(methods)}")
    for group in groups_of(methods):
        errors = [values["groups"].get(group) for values in methods.values()]
        cells = ["-" if error is None else f"{error['rmse'][0]:.4g}" for error in errors]
        print(f"  {group}  {'  '.join(cells)}")
    for line in describe_left_out(evaluation.scores):
        print(f"note: {line}")
