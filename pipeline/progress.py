"""Progress that a person can follow: bars in a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 10.0


class Bar(Protocol):
    """What work in progress reports to."""

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None:
        """So many units are done, of a total that may become known only now."""


def console() -> Console:
    """Where people read; results go to standard output, progress to standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def bar(title: str, total: int, active: bool = True) -> Iterator[Bar]:
    """A bar of `total` units; an inactive one, for all ranks but 0, shows nothing."""
    if not active:
        yield lambda done, note="", total=None: None
    elif sys.stderr.isatty():
        with _rich_bar(title, total) as update:
            yield update
    else:
        yield _Lines(title, total)


@contextmanager
def _rich_bar(title: str, total: int) -> Iterator[Bar]:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console()) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda done, note="", total=None: progress.update(task, completed=done, note=note, total=total)


class _Lines:
    """Prints at the start, at the end and every few seconds."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._last = title, total, 0.0

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None:
        self._total = total or self._total
        now = time.monotonic()
        if done < self._total and now - self._last < LINE_SECONDS:
            return
        self._last = now
        print(f"{self._title:<12} {done}/{self._total}  {note}".rstrip(), file=sys.stderr, flush=True)
