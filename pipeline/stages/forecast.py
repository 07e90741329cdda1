"""Forecasts of a model, or of an ensemble of them, kept as Zarr."""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

import pelagos
from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.pipeline.forecasting.ensemble import EnsembleConfig
from pelagos.pipeline.forecasting.ensemble_forecaster import EnsembleForecaster
from pelagos.pipeline.forecasting.forecast_data import (
    FieldsPlace,
    ForcingsConfig,
    dataset_name,
    start_digest,
    with_members,
)
from pelagos.pipeline.forecasting.forecast_file import write_forecasts
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.domain_fit import unit_text
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.durable import sole_writer
from pelagos.preprocessing.files.location import Folder
from pelagos.preprocessing.store.store import Store, open_store


class ForecastStage(FieldsPlace):
    """Forecasts of a model, or of an ensemble.

    Attributes:
        model: a folder, or models:/NAME@ALIAS of the registry; of an ensemble also a list of them.
        output: the Zarr group of the forecasts.
        starts: which forecasts are made.
        truth: whether all that is forecast has to lie in the split, so that it can be scored; starts.at and archives
            ask for no truth.
        dataset: the name by which the model knows an archive; needed where it knows several datasets.
        step: time from one frame to the next, in the model's unit of time, where an archive has a single frame.
        forcings: where forcings come from beyond the data.
        ensemble: several forecasts from each start.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for every lead time from the initial
            frame; `{kind: composite, lengths: [8, 4, 1]}` reaches each lead time by the fewest calls of these lengths.
        batch: forecasts computed together.
        threads: of the CPU; results are bit-identical only for the same number.
        overwrite: whether the output may replace older forecasts.
        tracking: where the registry is.
    """

    command: Literal["forecast"] = "forecast"
    model: str | Annotated[tuple[str, ...], Field(min_length=1)]
    output: Folder
    starts: StartsConfig = StartsConfig()
    truth: bool = True
    dataset: str = ""
    step: float | None = Field(default=None, gt=0)
    forcings: ForcingsConfig = ForcingsConfig()
    ensemble: EnsembleConfig | None = None
    mode: Mode = "rollout"
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    overwrite: bool = False
    tracking: TrackingConfig = TrackingConfig()

    @property
    def models(self) -> tuple[str, ...]:
        """The model, or those of an ensemble."""
        return (self.model,) if isinstance(self.model, str) else self.model

    @model_validator(mode="after")
    def _complete(self) -> "ForecastStage":
        if not self.is_given:
            raise ValueError("say what to start from: store, archive or source")
        if len(self.models) > 1 and self.ensemble is None:
            raise ValueError("several models make an ensemble: set ensemble, if only to {}")
        if not self.store and not self.starts.at:
            raise ValueError(
                "an archive has no splits: say by starts.at which frames to start from, such as last"
            )
        return self


def run(config: ForecastStage) -> Path:
    """Make the forecasts of a configuration, or go on with them; returns their path.

    Raises:
        ConfigError: the output exists and is not to be overwritten.
        DataError: a forecast cannot be made; the message says what to give.
        LockedError: another process writes it.
    """
    with sole_writer(config.output):
        return _forecast(config)


def _forecast(config: ForecastStage) -> Path:
    if config.output.exists() and not config.overwrite:
        raise ConfigError(f"{config.output} exists: give another output=, or overwrite=true")
    # What a store alone refuses is said before weights are looked for, which may take longer.
    stored = _planned(config, open_store(config.store)) if config.store else None
    references = [model_registry.pinned(one, config.tracking) for one in config.models]
    folders = [model_registry.resolve(one, config.tracking) for one in references]
    models = [load(folder) for folder in folders]
    store, plan = stored or _planned(config, _opened(config, models))
    forecaster = _forecaster(config, models, store)
    forecaster.check(plan)
    forecaster.warn(plan)
    attributes = {
        **_attributes(config, store, references, [model_checksum(folder) for folder in folders]),
        # Of an archive what is read of it: the whole may be too large to read.
        "initial_data_checksum": config.digest()
        if config.store
        else start_digest(store, plan, config.ensemble),
    }
    facts = json.dumps([attributes, config.forcings.digest()], sort_keys=True)
    fingerprint = run_folder.fingerprint(_content(config), facts)
    with bar("forecast", prod(plan.sample_shape)) as show:
        write_forecasts(forecaster, plan, config.output, attributes, fingerprint, show)
    print(_closing(config.output, store, plan))
    return config.output


def _opened(config: ForecastStage, models: Sequence[Model]) -> Store:
    """The archive that forecasts start from, in the form that the first model knows."""
    name = dataset_name(models, config.dataset)
    return config.open(models[0].domain(name), name, config.step)


def _planned(config: ForecastStage, store: Store) -> tuple[Store, ForecastPlan]:
    verified = config.truth and bool(config.store) and not config.starts.at
    plan = config.starts.plan(store, verified=verified)
    if config.ensemble is not None:
        plan = with_members(plan, store, config.ensemble, len(config.models))
    return store, plan


def _forecaster(
    config: ForecastStage, models: Sequence[Model], store: Store
) -> Forecaster | EnsembleForecaster:
    supply = config.forcings.supply(store, models[0].domain(store.dataset))
    labels = ["the model"] if len(models) == 1 else [f"model {one}" for one in config.models]
    made = [
        Forecaster(model, store, config.mode, config.batch, config.threads, label, supply, config.ensemble)
        for model, label in zip(models, labels, strict=True)
    ]
    return made[0] if len(made) == 1 else EnsembleForecaster(made)


def _content(config: ForecastStage) -> ForecastStage:
    """The configuration without what has no say in the forecasts."""
    plain = {"output": Path("-"), "overwrite": False, "tracking": TrackingConfig()}
    return config.model_copy(update=plain)


def _attributes(
    config: ForecastStage, store: Store, references: Sequence[str], checksums: Sequence[str]
) -> dict[str, Any]:
    """Where the forecasts come from: texts, which every format of files takes."""
    content = _content(config).model_dump(mode="json", exclude_defaults=True, exclude={"output"})
    return {
        "title": f"forecasts of {store.dataset}",
        "source": f"pelagos {pelagos.__version__}",
        "model": " ".join(references),
        "model_checksum": " ".join(checksums),
        "initial_data": str(store.path),
        "initial_data_version": store.version,
        "configuration": json.dumps(content, sort_keys=True),
    }


def _closing(output: Path, store: Store, plan: ForecastPlan) -> str:
    """What was written, and how to go on."""
    return (
        f"forecasts: {output} ({prod(plan.sample_shape)}, of {plan.steps} steps of {plan.stride * store.dt:g}"
        f"{unit_text(store.time_units)})\nopen them: xarray.open_zarr({str(output)!r})"
    )
