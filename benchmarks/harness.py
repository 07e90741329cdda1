"""Timing of alternatives side by side, and the memory that each needs in a process of its own."""

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Call = Callable[[], object]
CLEAR_PEAK = "5"
"""What resets a process's peak of resident memory: see proc(5), clear_refs."""


@dataclass(frozen=True)
class Ratio:
    """Of two timings in the same rounds: the median of their ratios, and the quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def spread(values: Sequence[float]) -> str:
    """The median, and in brackets the extremes."""
    return f"{statistics.median(values):.4g} ({min(values):.4g}-{max(values):.4g})"


@dataclass(frozen=True)
class Timings:
    """Seconds of each alternative in each round, by the clock and by the processor (all threads together).

    The processor's hardly change when others want it too, but say nothing of what is waited for.
    """

    clock: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def clock_ratio(self, slow: str, fast: str) -> Ratio:
        """How many times as long `slow` takes as `fast` does, by the clock."""
        return _ratio(self.clock[slow], self.clock[fast])

    def ratio(self, slow: str, fast: str) -> Ratio:
        """The same by the processor."""
        return _ratio(self.processor[slow], self.processor[fast])

    def milliseconds(self, name: str) -> float:
        """The median by the processor."""
        return 1e3 * statistics.median(self.processor[name])


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high)


def nothing() -> None:
    """Prepares nothing."""


def interleave(calls: dict[str, Call], rounds: int, warm_up: int = 2, before: Call = nothing) -> Timings:
    """Time all calls in turn, round after round, so that what else the machine does meets all alike.

    Args:
        calls: the alternatives.
        rounds: that count.
        warm_up: rounds before those.
        before: prepares each call, and is not timed.
    """
    timings, names = Timings({name: [] for name in calls}, {name: [] for name in calls}), list(calls)
    # The same order in all processes that call this together.
    order = random.Random(0)
    for turn in range(warm_up + rounds):
        order.shuffle(names)
        for name in names:
            before()
            clock, processor = time.perf_counter(), time.process_time()
            calls[name]()
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            if turn >= warm_up:
                timings.clock[name].append(clock)
                timings.processor[name].append(processor)
    return timings


def load() -> str:
    """The machine's load, for a reader to judge the figures by."""
    return "load " + " ".join(f"{value:.1f}" for value in os.getloadavg()) + f" on {os.cpu_count()} cores"


def peak_mebibytes(prepare: Callable[[], Call], calls: int = 3) -> float:
    """What the process needs at most beyond what it holds before the network is made [MiB]."""
    before = resident_kibibytes("VmRSS")
    call = prepare()
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    for _ in range(calls):
        call()
    return (resident_kibibytes("VmHWM") - before) / 1024


def resident_kibibytes(name: str) -> int:
    """VmRSS or VmHWM of this process: what it holds, and what it has held at most; see proc(5)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def in_fresh_process(module: str, arguments: Sequence[str]) -> float:
    """The number that `python -m module arguments` prints in its last line."""
    command = [sys.executable, "-m", module, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def line(cells: Iterable[object]) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def heading(names: Sequence[str]) -> str:
    """The first lines of a table in Markdown."""
    return f"{line(names)}\n{line(['---'] * len(names))}"
