"""Scored forecasts: those of a model as a source of frames for an evaluation, and written on the way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray

from pelagos.evaluation.forecast_plan import ForecastPlan, StartBatch
from pelagos.evaluation.forecast_writer import ForecastWriter
from pelagos.evaluation.streaming.frame_sources import rounded
from pelagos.evaluation.truth import empty_forecast
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.preprocessing.files.durable import sole_writer
from pelagos.preprocessing.variables import keys

Fields = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ModelFrames:
    """The forecasts of a model, frame by frame."""

    forecaster: Forecaster
    plan: ForecastPlan

    @property
    def variables(self) -> tuple[str, ...]:
        """The keys of the variables."""
        return keys(self.forecaster.domain.outputs)

    def frames(self, batch: StartBatch) -> Iterator[Fields]:
        """(B, V, H, W) physical fields at one lead time after the other."""
        outputs = self.forecaster.domain.outputs
        return (rounded(frame, outputs) for frame in self.forecaster.frames(batch, self.plan))


class ForecastFiles:
    """Where the forecasts of a model are written while they are scored.

    Args:
        path: of the Zarr group, which takes its name once it is complete.
        forecaster: makes the forecasts.
        plan: all forecasts.
        digest: of all that decides their values.
        alone: whether no other process writes parts of them.
    """

    def __init__(
        self, path: Path, forecaster: Forecaster, plan: ForecastPlan, digest: str, *, alone: bool
    ) -> None:
        self._dims = len(plan.sample_dims)
        self._writer: ForecastWriter | None = None
        if path.is_dir() and zarr.open_group(path, mode="r").attrs.get("evaluation") == digest:
            return  # complete
        template = empty_forecast(forecaster.store, plan, forecaster.domain.outputs)
        block = plan.batch_shape(forecaster.batch)[: self._dims]
        # Parts of an evaluation that start together would begin the group twice.
        with sole_writer(path.with_name(f"{path.name}.begin"), patience=60.0):
            described = template.assign_attrs(evaluation=digest)
            self._writer = ForecastWriter(path, described, block, digest, alone=alone)

    def is_written(self, batch: StartBatch) -> bool:
        """Whether the forecasts of a batch are on disk."""
        return self._writer is None or self._writer.is_written(batch.cell[: self._dims])

    @contextmanager
    def block(self, batch: StartBatch) -> Iterator[Callable[[Fields], None]]:
        """Give a function that takes the frames of a batch, one lead time after the other."""
        if self._writer is None:
            yield lambda fields_BVHW: None
            return
        with self._writer.block(batch.cell[: self._dims]) as write:
            yield write

    def finish(self) -> None:
        """Give the group its name; all batches have been written."""
        if self._writer is not None:
            self._writer.finish()
