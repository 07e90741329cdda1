"""Ledger: a record of the samples that each process has trained on, for audits."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pelagos.preprocessing.samples.batch import LoadedBatch


class Ledger:
    """Appends a line of JSON for each micro-batch to a file, after the step that used it."""

    def __init__(self, file: Path, *, active: bool) -> None:
        self._file, self._active = file, active

    def record(self, step: int, blocks: Iterable[tuple[int, LoadedBatch]]) -> None:
        """Record the numbered micro-batches of a step."""
        if not self._active:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Opened for each step: nothing to flush or to close when the process is killed.
        with self._file.open("a", encoding="utf-8") as file:
            for number, batch in blocks:
                index = batch.index.tolist()
                record = {"step": step, "block": number, "dataset": batch.layout.dataset, "index": index}
                file.write(json.dumps(record) + "\n")


def read_ledger(folder: Path) -> dict[int, dict[str, Any]]:
    """The micro-batches of a run by number, from the files of all its processes.

    Raises:
        ValueError: a step that was repeated after an interruption had other samples.
    """
    blocks: dict[int, dict[str, Any]] = {}
    for file in sorted(folder.glob("rank-*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            # A resumed run repeats the steps after its checkpoint, by the order's promise with the same samples.
            if blocks.setdefault(record["block"], record) != record:
                raise ValueError(f"{file}: block {record['block']} was drawn twice, differently")
    return dict(sorted(blocks.items()))
