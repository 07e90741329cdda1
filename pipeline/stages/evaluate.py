"""Evaluation: rollouts of several models on one store, scored beside baselines."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from pelagos.evaluation import baselines, scores
from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.summary import summary
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.model_folder import Domain, Model, load
from pelagos.pipeline.runs.progress import Bar, bar
from pelagos.pipeline.stages import forecast as forecasts
from pelagos.pipeline.stages.forecast import Forecaster, Plan, StartsConfig
from pelagos.pipeline.tracking import registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.durable import write_json
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.location import Folder, Location
from pelagos.preprocessing.store.store import Store, open_store

Baseline = Literal["persistence", "climatology", "stencil"]


class EvaluateStage(Config):
    """What to score against what.

    Attributes:
        models: name in the report -> a folder, or models:/NAME@ALIAS of the registry.
        store: the truth.
        output: folder of the forecasts (`forecasts/NAME.zarr`), `scores.json` and `report.html`.
        starts: which forecasts are made.
        baselines: `climatology` is the mean over the training split by hour of the day; `stencil` a
            linear map of each point's neighbourhood, fitted to the training split.
        training: the split that baselines are fitted to.
        mode: `rollout` feeds forecasts back, `direct` asks for each lead time from the initial frame.
        pictures: which sample the report shows.
    """

    command: Literal["evaluate"] = "evaluate"
    models: dict[str, str] = Field(min_length=1)
    store: Location
    output: Folder
    starts: StartsConfig = StartsConfig()
    baselines: tuple[Baseline, ...] = ("persistence",)
    training: str = "train"
    mode: Literal["rollout", "direct"] = "rollout"
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    title: str = "Evaluation"
    pictures: int = Field(default=0, ge=0)
    tracking: TrackingConfig = TrackingConfig()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Forecasts by method, the truth, the frames they start from, and their scores.

    Attributes:
        errors: method -> (trajectory, start, lead_time, group) relative L1 errors.
        scores: as in scores.json.
    """

    forecasts: dict[str, xr.Dataset]
    truth: xr.Dataset
    initial: xr.Dataset
    errors: dict[str, xr.DataArray]
    scores: dict[str, Any]


def run(config: EvaluateStage) -> Evaluation:
    """Make the forecasts, score them, and write the report.

    Raises:
        ConfigError: the output folder holds another evaluation.
    """
    clash = set(config.models) & set(config.baselines)
    if clash:
        raise ConfigError(f"models: {', '.join(clash)} is the name of a baseline; give the model another")
    store = open_store(config.store)
    plan = config.starts.plan(store)
    models = {name: load_model(config, name) for name in config.models}
    run_folder.claim(config.output, config, run_folder.fingerprint(config))
    with bar("evaluate", len(models) * len(plan.trajectories)) as show:
        for number, (name, model) in enumerate(models.items()):
            forecaster = Forecaster(model, store, config.mode, config.batch, config.threads)
            count = partial(_show, show, number * len(plan.trajectories), name)
            forecasts.write(forecaster.blocks(plan, count), path(config, name))
    domain = next(iter(models.values())).domain(store.dataset)
    result = assemble(config, store, plan, domain)
    write_json(config.output / "scores.json", result.scores)
    _report(config, result)
    _print(result)
    return result


def load_model(config: EvaluateStage, name: str) -> Model:
    """One of the models of a configuration."""
    return load(registry.resolve(config.models[name], config.tracking))


def _show(show: Bar, before: int, name: str, done: int) -> None:
    show(before + done, name)


def path(config: EvaluateStage, name: str) -> Path:
    """Where the forecasts of a model are kept."""
    return config.output / "forecasts" / f"{name}.zarr"


def assemble(config: EvaluateStage, store: Store, plan: Plan, domain: Domain) -> Evaluation:
    """Score the kept forecasts and the baselines."""
    truth = forecasts.truth(store, plan, domain.outputs)
    initial = forecasts.initial(store, plan, domain.outputs)
    methods = {name: forecasts.read(path(config, name)) for name in config.models}
    for name in config.baselines:
        methods[name] = _baseline(name, config, store, plan, truth, initial)
    sums = {name: _accumulate(data, truth) for name, data in methods.items()}
    about = {
        "dataset": store.dataset,
        "trajectories": len(plan.trajectories),
        "starts": len(plan.starts),
        "lead_times": truth["lead_time"].values.tolist(),
        "units": {name: truth[name].attrs["units"] for name in truth.data_vars},
    }
    results = {name: summary(total) for name, total in sums.items()}
    errors = {name: scores.relative_l1(total) for name, total in sums.items()}
    return Evaluation(methods, truth, initial, errors, {**about, "methods": results})


def _accumulate(forecast: xr.Dataset, truth: xr.Dataset) -> Sums:
    """Trajectory by trajectory, so that memory does not grow with their number."""
    return Sums.total(
        scores.accumulate(forecast.isel(trajectory=[i]).load(), truth.isel(trajectory=[i]))
        for i in range(truth.sizes["trajectory"])
    )


def _baseline(
    name: Baseline, config: EvaluateStage, store: Store, plan: Plan, truth: xr.Dataset, initial: xr.Dataset
) -> xr.Dataset:
    lead_times = truth["lead_time"].values
    if name == "persistence":
        return baselines.persistence(initial, lead_times).transpose(*truth.dims)
    stride = plan.stride if name == "stencil" else 1
    training = training_frames(store, config.training, stride)[list(truth.data_vars)]
    if name == "climatology":
        return baselines.Climatology.fit(training).forecast(truth)
    return baselines.LinearStencil.fit(training).forecast(initial, lead_times).transpose(*truth.dims)


def training_frames(store: Store, split: str, stride: int) -> xr.Dataset:
    """(trajectory, time, y, x) frames of a split, `stride` apart.

    Raises:
        DataError: the store has no such split, or it is not made of whole blocks of time.
    """
    inside = forecasts.frames_of(store, split)
    members = np.flatnonzero(inside.any(axis=1))
    frames = np.flatnonzero(inside[members].all(axis=0))[::stride]
    if len(frames) == 0:
        raise DataError(f"{store.path}: the trajectories of split {split!r} share no frame")
    fields = store.to_xarray()
    return fields.isel(trajectory=members, time=frames).assign_coords(time=store.times[frames]).load()


def _print(result: Evaluation) -> None:
    methods = result.scores["methods"]
    width = max(len(name) for name in (*methods, "median relative L1"))
    print(f"{'median relative L1':<{width}}  one step  rollout  pooled relative L2 of one step")
    for name, values in methods.items():
        pooled = values["pooled_relative_l2"][0]
        print(f"{name:<{width}}  {values['one_step']:8.4f} {values['rollout']:8.4f}  {pooled:8.4f}")
    print(f"\nRMSE at the first lead time: {', '.join(methods)}")
    for group in next(iter(methods.values()))["groups"]:
        errors = [f"{values['groups'][group]['rmse'][0]:.4g}" for values in methods.values()]
        print(f"  {group}  {'  '.join(errors)}")


def _report(config: EvaluateStage, result: Evaluation) -> None:
    from pelagos.pipeline.stages.demo_report import evaluation_report

    evaluation_report(config.title, result, config.pictures).write(config.output / "report.html")
