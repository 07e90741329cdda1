"""Evaluation record: what the folder of an evaluation says of a model, told apart by the checksums of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.convention_scores import ConventionScores
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.conventions.score_reduction import compute_estimate
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.evaluation.streaming.score_archive import read_scores
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.configuration import read_yaml
from pelagos.pipeline.runs.model_card import ScoreLine
from pelagos.preprocessing.errors import DataError, MissingFileError

ARCHIVE = "scores.zarr"
"""What an evaluation keeps of each of its forecasts."""
ROLLOUT = ScoreDefinition(
    name="normalised relative L1", formula="normalised_relative_l1", pool_variables=True
)
"""Mean relative L1 error of normalised fields over variables, lead times and starts: what gates compare by."""


@dataclass(frozen=True)
class EvaluationRecord:
    """What an evaluation knows.

    Attributes:
        folder: of the evaluation.
        models: the checksum of each model, by its name in the evaluation.
        store: what it was scored on, and its checksum.
        scores: of each method, forecast by forecast.
    """

    folder: Path
    models: Mapping[str, str]
    store: tuple[str, str]
    scores: ConventionScores

    def name_of(self, checksum: str) -> str:
        """What the evaluation calls the model with these files.

        Raises:
            DataError: it did not score it.
        """
        for name, known in self.models.items():
            if known == checksum:
                return name
        listed = ", ".join(f"{name} ({known[:12]})" for name, known in self.models.items())
        raise DataError(f"{self.folder} did not score the model {checksum[:12]}..., but {listed or 'none'}")

    def lines(self, checksum: str) -> list[ScoreLine]:
        """The scores of a model for its card."""
        name = self.name_of(checksum)
        statistics = self.scores.statistics[name]
        last = (len(statistics.lead_times) - 1, None)
        windows = {"first step": (0, 1), "last step": last, "all steps": (0, None)}
        data = f"{Path(self.store[0]).name} (`{self.store[1][:12]}`)"
        lines = []
        for words, window in windows.items():
            definition = ROLLOUT.model_copy(update={"name": f"{ROLLOUT.name}, {words}", "window": window})
            found = compute_estimate(definition, statistics, self.scores.counts)
            lines.append(
                ScoreLine(data, definition.name, found.value, found.low, found.high, found.n, found.failed)
            )
        return lines


def read_evaluation(folder: Path) -> EvaluationRecord:
    """The record of a finished evaluation.

    Raises:
        MissingFileError: the folder holds none, or one that is not finished.
        DamagedFileError: a file is not as it was written.
        DataError: it is of an earlier version, which did not record its models.
    """
    archive = folder / ARCHIVE
    if not archive.is_dir():
        raise MissingFileError(f"{folder} holds no finished evaluation: {ARCHIVE} is missing")
    inputs = run_folder.record(folder).get("inputs", {})
    models = {
        name.removeprefix("model "): one["checksum"]
        for name, one in inputs.items()
        if name.startswith("model ")
    }
    stores = [
        (name.removeprefix("store "), one["checksum"])
        for name, one in inputs.items()
        if name.startswith("store ")
    ]
    if not models or not stores:
        raise DataError(f"{folder} does not record which models it scored: evaluate them again")
    contents = read_scores(archive)
    statistics = {name: _statistics(content) for name, content in contents.items() if name != TRUTH}
    first = contents[next(iter(statistics))]
    dims = [dim for dim in ("trajectory", "start", "member") if dim in first["points"].dims]
    places = np.meshgrid(*(first[dim].values for dim in dims), indexing="ij")
    known = dict(zip(dims, (place.ravel() for place in places), strict=True))
    starts = known.get("start", np.zeros_like(known["trajectory"]))
    scores = ConventionScores.of(statistics, known["trajectory"], starts, _reach(folder))
    return EvaluationRecord(folder, models, stores[0], scores)


def _statistics(content: xr.Dataset) -> SampleStatistics:
    """What is kept of each forecast of a method, over the whole domain."""
    points = content["points"].sel(region=WHOLE)
    values = points.values.reshape(-1, *points.shape[-3:])
    group = dict(zip(content["variable"].values.tolist(), content["group"].values.tolist(), strict=True))
    arrays = {str(name): values[..., place] for place, name in enumerate(content["statistic"].values)}
    return SampleStatistics(arrays, group, content["lead_time"].values)


def _reach(folder: Path) -> int:
    """How many frames lie from the start of a forecast to its end."""
    starts = read_yaml(folder / "config.yaml").get("starts", {})
    return int(starts.get("stride", 1)) * int(starts.get("steps", 1))
