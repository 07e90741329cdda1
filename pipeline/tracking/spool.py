"""Spool: the records of a run in a file, and how many of them a server has received."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

from pelagos.preprocessing.durable import write_json

Record = dict[str, float]
BATCH = 50
"""Records sent at once; MLflow takes at most 1000 numbers."""


class Spool:
    """A run's `metrics.jsonl`: one thread appends records, another sends them.

    A step that a run repeats after an interruption is in the file twice, but sent once: a record with the step and
    keys of one that was sent is skipped.

    Attributes:
        file: the file of all records, a line each.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self._marker = folder / "metrics.jsonl", folder / "mlflow_sent.json"
        self._lock = threading.Lock()
        self._seen: set[tuple[float, frozenset[str]]] = set()
        sent = json.loads(self._marker.read_text())["bytes"] if self._marker.is_file() else 0
        content = self.file.read_bytes() if self.file.is_file() else b""
        # A killed process may have left an unfinished line.
        self._size = content.rfind(b"\n") + 1
        if self._size < len(content):
            with self.file.open("r+b") as file:
                file.truncate(self._size)
        for line in content[: min(sent, self._size)].splitlines():
            self._seen.add(_identity(json.loads(line)))
        self._sent = min(sent, self._size)

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return self._sent < self._size

    def append(self, record: Record) -> None:
        """Append a record."""
        line = (json.dumps(record) + "\n").encode()
        with self._lock:
            with self.file.open("ab") as file:
                file.write(line)
            self._size += len(line)

    def batches(self) -> Iterator[list[Record]]:
        """Batches of records to send; each counts as sent once the next is asked for."""
        while self.waiting:
            with self.file.open("rb") as file:
                file.seek(self._sent)
                # Without its newline the last line is still being written by the other thread.
                lines = [line for _, line in zip(range(BATCH), file, strict=False) if line.endswith(b"\n")]
            records = [json.loads(line) for line in lines]
            new = {_identity(record): record for record in records if _identity(record) not in self._seen}
            if new:
                yield list(new.values())
            self._seen.update(new)
            self._sent += sum(map(len, lines))
            write_json(self._marker, {"bytes": self._sent})


def _identity(record: Record) -> tuple[float, frozenset[str]]:
    return record["step"], frozenset(record)
