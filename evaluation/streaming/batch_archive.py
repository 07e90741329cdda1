"""Batch archive: the scores of finished start batches on disk, from which an evaluation goes on after it was stopped.

A batch is a file for each window of lead times and, once all are there, a record of their checksums. Any process may
write any batch: what is made of all of them depends only on the plan.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from pelagos.evaluation.forecast_plan import StartBatch
from pelagos.evaluation.streaming.score_plan import PlanPart, ScorePlan
from pelagos.evaluation.streaming.score_state import ScoreState, arrays_of
from pelagos.preprocessing.files import durable

FORMAT = 5


@dataclass(frozen=True, eq=False)
class BatchArchive:
    """The finished batches of one evaluation.

    Attributes:
        path: of the folder.
        plan: what is kept.
        batches: all there are.
        digest: of all that scores depend on. Batches of another digest are not taken for finished.
    """

    path: Path
    plan: ScorePlan
    batches: tuple[StartBatch, ...]
    digest: str

    def is_finished(self, batch: StartBatch) -> bool:
        """Whether the scores of a batch are there, undamaged and of this evaluation."""
        record = self._record(batch)
        if not record.is_file():
            return False
        try:
            found = json.loads(record.read_bytes())
        except ValueError:
            return False  # damaged: the batch is scored again
        if not isinstance(found, dict) or (found.get("digest"), found.get("format")) != (self.digest, FORMAT):
            return False
        return all(self._is_whole(name, crc) for name, crc in found["files"].items())

    def _is_whole(self, name: str, crc: str) -> bool:
        file = self.path / name
        return file.is_file() and durable.crc32c(file) == crc

    def write(self, batch: StartBatch, windows: Iterable[dict[str, ScoreState]]) -> None:
        """Write the scores of a batch, one window of lead times after the other."""
        self.path.mkdir(parents=True, exist_ok=True)
        record, files = self._record(batch), {}
        record.unlink(missing_ok=True)
        for number, states in enumerate(windows):
            file = self.path / f"{batch.number:05d}-{number:05d}.safetensors"
            durable.write_bytes(file, _content(states))
            files[file.name] = durable.crc32c(file)
        durable.write_json(record, {"format": FORMAT, "digest": self.digest, "files": files})

    def merged(self, method: str) -> ScoreState:
        """The scores of all batches together.

        Raises:
            DataError: two batches hold the same forecast.
        """
        whole = ScoreState.empty(self.plan, method, self.plan.whole)
        for batch in self.batches:
            for state in self._states(batch, method):
                whole.merge(state)
        return whole

    def clear(self) -> None:
        """Remove all batches."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _states(self, batch: StartBatch, method: str) -> Iterator[ScoreState]:
        for name in json.loads(self._record(batch).read_bytes())["files"]:
            with safe_open(self.path / name, framework="np") as file:
                part = json.loads(file.metadata()["part"])
                arrays = {array: file.get_tensor(f"{method}/{array}") for array in arrays_of(method)}
            samples, leads = (slice(*bounds) for bounds in part)
            yield ScoreState(self.plan, method, PlanPart(samples, leads), arrays)

    def _record(self, batch: StartBatch) -> Path:
        return self.path / f"{batch.number:05d}.json"


def _content(states: dict[str, ScoreState]) -> bytes:
    part = next(iter(states.values())).part
    arrays: dict[str, Any] = {
        f"{method}/{name}": np.ascontiguousarray(array)
        for method, state in states.items()
        for name, array in state.arrays.items()
    }
    # A single entry, since the library writes several in any order, and the bytes are to be the same each time.
    bounds = [[part.samples.start, part.samples.stop], [part.leads.start, part.leads.stop]]
    return save(arrays, {"part": json.dumps(bounds)})
