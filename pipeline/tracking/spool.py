"""Spool: the records of a run in a file, and how many of them a server has received."""

import json
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from pelagos.preprocessing.files.durable import write_json

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
        sent = self._recorded()
        content = self.file.read_bytes() if self.file.is_file() else b""
        # A killed process may have left an unfinished line.
        self._size = content.rfind(b"\n") + 1
        if self._size < len(content):
            with self.file.open("r+b") as file:
                file.truncate(self._size)
        self._sent = min(sent, self._size)
        self._seen.update(map(_identity, records(content[: self._sent].splitlines(), self.file)))

    @property
    def waiting(self) -> bool:
        """Whether there is anything to send."""
        return self._sent < self._size

    def _recorded(self) -> int:
        """The number of bytes that were sent, as an earlier process has left it."""
        if not self._marker.is_file():
            return 0
        try:
            return max(0, int(json.loads(self._marker.read_text())["bytes"]))
        except (KeyError, TypeError, ValueError) as error:
            # MLflow keeps one of two records of the same key, step and time, so nothing is there twice.
            _warn(f"{self._marker} is damaged ({error}): all records are sent again")
            return 0

    def rewind(self) -> None:
        """Take all records for unsent, as for a server that has lost them."""
        self._sent = 0
        self._seen.clear()
        write_json(self._marker, {"bytes": 0})

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
            found = records(lines, self.file)
            new = {_identity(record): record for record in found if _identity(record) not in self._seen}
            if new:
                yield list(new.values())
            self._seen.update(new)
            self._sent += sum(map(len, lines))
            write_json(self._marker, {"bytes": self._sent})


def _identity(record: Record) -> tuple[float, frozenset[str]]:
    return record["step"], frozenset(record)


def records(lines: Iterable[bytes], file: Path) -> Iterator[Record]:
    """The records in lines of a file; damaged ones are left out, with a warning."""
    damaged = []
    for line in lines:
        record = _record(line)
        if record is None:
            damaged.append(line)
        else:
            yield record
    if damaged:
        _warn(f"{file}: {len(damaged)} damaged line(s) are left out, such as {damaged[0][:60]!r}")


def _record(line: bytes) -> Record | None:
    try:
        values = json.loads(line)
    except ValueError:  # neither JSON nor text
        return None
    numbers = isinstance(values, dict) and all(isinstance(value, int | float) for value in values.values())
    return dict(values) if numbers and "step" in values else None


def _warn(message: str) -> None:
    print(f"WARNING: {message}", file=sys.stderr, flush=True)
