"""Ensemble forecaster: several models that take turns with the members of an ensemble.

Shapes: B samples, C channels, H rows, W columns.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from pelagos.evaluation.forecast_plan import ForecastPlan, StartBatch
from pelagos.pipeline.forecasting.forecast_inputs import Fields
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.variables import keys


class EnsembleForecaster:
    """Forecasters of which member m is made by number m modulo their count; all on one store.

    Raises:
        DataError: they do not forecast the same variables.
    """

    def __init__(self, forecasters: Sequence[Forecaster]) -> None:
        first = forecasters[0]
        for other in forecasters[1:]:
            if keys(other.domain.outputs) != keys(first.domain.outputs):
                raise DataError(
                    f"{first.label} forecasts {', '.join(keys(first.domain.outputs))}, {other.label}"
                    f" {', '.join(keys(other.domain.outputs))}: the members of an ensemble have the same variables"
                )
        self.forecasters = tuple(forecasters)
        self.store, self.domain, self.batch = first.store, first.domain, first.batch

    def check(self, plan: ForecastPlan) -> None:
        """Check that all forecasts of a plan can be made; raises DataError as `Forecaster.check` does."""
        for one in self.forecasters:
            one.check(plan)

    def warn(self, plan: ForecastPlan) -> None:
        """Say, once, where the store or the plan leave what the models were trained on."""
        for one in self.forecasters:
            one.warn(plan)

    def frames(self, batch: StartBatch, plan: ForecastPlan) -> Iterator[Fields]:
        """(B, C, H, W) fields of the output variables at one lead time of a batch's forecasts after the other."""
        groups = [
            [place for place, one in enumerate(batch.samples) if one.member % len(self.forecasters) == number]
            for number in range(len(self.forecasters))
        ]
        made = [
            (places, forecaster.frames(batch.part(places), plan))
            for places, forecaster in zip(groups, self.forecasters, strict=True)
            if places
        ]
        for _ in range(plan.steps):
            parts = [(places, next(frames)) for places, frames in made]
            whole = np.empty((len(batch.samples), *parts[0][1].shape[1:]), parts[0][1].dtype)
            for places, frame_BCHW in parts:
                whole[places] = frame_BCHW
            yield whole
