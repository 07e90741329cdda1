"""Forecasts of one model on one store, kept as Zarr."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.forecast_zarr import write_forecasts
from pelagos.pipeline.forecasting.forecaster import Forecaster, Mode
from pelagos.pipeline.runs.model_folder import load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.durable import sole_writer
from pelagos.preprocessing.files.location import Folder, Location
from pelagos.preprocessing.store.store import open_store


class ForecastStage(Config):
    """Forecasts of one model on one store.

    Attributes:
        model: a folder, or models:/NAME@ALIAS of the registry.
        store: what forecasts start from.
        output: the Zarr group of the forecasts.
        starts: which forecasts are made.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for every lead time
            from the initial frame.
        batch: forecasts computed together.
        threads: of the CPU; results are bit-identical only for the same number.
        overwrite: whether the output may replace older forecasts.
        tracking: where the registry is.
    """

    command: Literal["forecast"] = "forecast"
    model: str
    store: Location
    output: Folder
    starts: StartsConfig = StartsConfig()
    mode: Mode = "rollout"
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    overwrite: bool = False
    tracking: TrackingConfig = TrackingConfig()


def run(config: ForecastStage) -> Path:
    """Make the forecasts of a configuration; returns their path.

    Raises:
        ConfigError: the output exists and is not to be overwritten.
        LockedError: another process writes it.
    """
    with sole_writer(config.output):
        return _forecast(config)


def _forecast(config: ForecastStage) -> Path:
    if config.output.exists() and not config.overwrite:
        raise ConfigError(f"{config.output} exists: give another output=, or overwrite=true")
    store = open_store(config.store)
    plan = config.starts.plan(store)
    model = load(model_registry.resolve(config.model, config.tracking))
    forecaster = Forecaster(model, store, config.mode, config.batch, config.threads)
    forecaster.warn(plan)
    with bar("forecast", len(plan.trajectories)) as show:
        write_forecasts(forecaster.blocks(plan, show), config.output)
    print(f"forecasts: {config.output}")
    return config.output
