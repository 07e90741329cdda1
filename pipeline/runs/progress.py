"""Progress: bars in a terminal, an occasional line elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

LINE_SECONDS = 10.0
_SLOW = 0.095  # units per second, below which the seconds of a unit are told
_RECENT = 32  # updates over which the rate is taken


class Pace:
    """The rate of work over its latest updates, and the time that the rest will take.

    Earlier updates are left out: what an interrupted run had done counts at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RECENT)

    def __call__(self, done: int, total: int) -> str:
        """Units per second and the time left; empty while they are unknown."""
        self._seen.append((self._clock(), done))
        (began, before), (now, _) = self._seen[0], self._seen[-1]
        if done <= before or now <= began:
            return ""
        rate = (done - before) / (now - began)
        # Whole seconds: more digits would change with every line and say nothing.
        left = f", {timedelta(seconds=round((total - done) / rate))} left" if done < total else ""
        # Nobody reads minutes off a rate such as 0.0137/s.
        return f"{rate:.3g}/s{left}" if rate > _SLOW else f"{1 / rate:.3g} s each{left}"


class Bar(Protocol):
    """Shows how far work has come."""

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None:
        """Show the units that are done, of a total that may become known only now."""


def console() -> Console:
    """The console for progress, on standard error: standard output is for results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def bar(title: str, total: int, active: bool = True) -> Iterator[Bar]:
    """A bar of `total` units; shows nothing if not active, as on all ranks but 0."""
    if not active:
        yield lambda done, note="", total=None: None
    # Redrawn bars would fill a log with control characters.
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
        TextColumn("{task.fields[pace]}  {task.fields[note]}"),
    )
    pace = Pace()
    with Progress(*columns, console=console()) as progress:
        task = progress.add_task(title, total=total, note="", pace="")

        def show(done: int, note: str = "", total: int | None = None) -> None:
            rate = pace(done, total or int(progress.tasks[0].total or 0))
            progress.update(task, completed=done, note=note, total=total, pace=rate)

        yield show


class _Lines:
    """Prints a line at the start, at the end and every few seconds, for logs."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._last, self._pace = title, total, 0.0, Pace()

    def __call__(self, done: int, note: str = "", total: int | None = None) -> None:
        self._total = total or self._total
        pace, now = self._pace(done, self._total), time.monotonic()
        if done < self._total and now - self._last < LINE_SECONDS:
            return
        self._last = now
        line = "  ".join(text for text in (f"{self._title:<12} {done}/{self._total}", pace, note) if text)
        print(line, file=sys.stderr, flush=True)
