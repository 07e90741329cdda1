"""Forecast file: forecasts made and written frame by frame, which go on where they were killed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.forecast_writer import ForecastWriter
from pelagos.evaluation.truth import empty_forecast
from pelagos.pipeline.forecasting.ensemble_forecaster import EnsembleForecaster
from pelagos.pipeline.forecasting.forecaster import Forecaster


def write_forecasts(
    forecaster: Forecaster | EnsembleForecaster,
    plan: ForecastPlan,
    path: Path,
    attributes: Mapping[str, Any],
    fingerprint: str = "",
    show: Callable[[int], None] = lambda done: None,
) -> None:
    """Write the forecasts of a plan; batches that a killed process has finished are not made again.

    Args:
        forecaster: makes them, a batch at a time.
        plan: which forecasts.
        path: of the Zarr group, which takes its name once it is complete.
        attributes: what the group says of where the forecasts come from.
        fingerprint: of all that decides the values; empty to begin anew.
        show: called with the number of forecasts that are done.

    Raises:
        DataError: the model cannot start that early, or cannot make steps of that length.
    """
    template = empty_forecast(forecaster.store, plan, forecaster.domain.outputs)
    dims = len(plan.sample_dims)
    block = plan.batch_shape(forecaster.batch)[:dims]
    writer = ForecastWriter(path, template.assign_attrs(attributes), block, fingerprint)
    done = 0
    for batch in plan.batches(forecaster.batch):
        cell = batch.cell[:dims]
        if not writer.is_written(cell):
            with writer.block(cell) as write:
                for frame in forecaster.frames(batch, plan):
                    write(frame)
        done += len(batch.samples)
        show(done)
    writer.finish()
