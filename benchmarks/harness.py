"""Timing of alternatives side by side, and the memory that each needs in a process of its own."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Timings:
    """CPU seconds of each alternative in each round."""

    seconds: dict[str, list[float]]

    def milliseconds(self, name: str) -> float:
        """The median."""
        return 1e3 * statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> Ratio:
        """How many times as long `slow` takes as `fast` does."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        low, median, high = statistics.quantiles((a / b for a, b in pairs), n=4, method="inclusive")
        return Ratio(median, low, high)


def interleave(calls: dict[str, Call], rounds: int, warm_up: int = 2) -> Timings:
    """Time all calls in turn, round after round, so that what else the machine does meets all alike.

    CPU time of the process is taken, not the clock's: it hardly changes when others want the processor too.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn >= warm_up:
                seconds[name].append(time.process_time() - start)
    return Timings(seconds)


def peak_mebibytes(prepare: Callable[[], Call], calls: int = 3) -> float:
    """What the process needs at most beyond what it holds before the network is made [MiB]."""
    before = _resident("VmRSS")
    call = prepare()
    Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    for _ in range(calls):
        call()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
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
