"""Rounds: alternatives timed in one process, in an order that is shuffled each round, by the clock and the CPU."""

import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Rounds:
    """Seconds of each alternative in each round; each call handles `items` items of `bytes` bytes together."""

    items: int
    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def run(
        self, calls: dict[str, Callable[[], object]], rounds: int, before: Callable[[], None] = lambda: None
    ) -> "Rounds":
        """Call all once to warm up, then `rounds` times; `before` prepares each call and is not timed."""
        names = list(calls)
        for turn in range(rounds + 1):
            random.shuffle(names)
            for name in names:
                before()
                cpu, wall = time.process_time(), time.perf_counter()
                calls[name]()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                if turn:
                    self.wall.setdefault(name, []).append(wall)
                    self.cpu.setdefault(name, []).append(cpu)
        return self

    def rate(self, name: str) -> float:
        """Items a second, median."""
        return self.items / statistics.median(self.wall[name])

    def best(self, name: str) -> float:
        """Items a second in the best round."""
        return self.items / min(self.wall[name])

    def cost(self, name: str) -> float:
        """CPU microseconds an item, all threads together, median."""
        return 1e6 * statistics.median(self.cpu[name]) / self.items

    def ratio(self, name: str, to: str) -> tuple[float, float]:
        """How many times as fast as `to`: median of the rounds' wall ratios, and by CPU time."""
        pairs = zip(self.wall[to], self.wall[name], strict=True)
        cpu = statistics.median(self.cpu[to]) / statistics.median(self.cpu[name])
        return statistics.median(a / b for a, b in pairs), cpu

    def table(self, to: str, unit: str, slower: bool = False) -> list[str]:
        """Rows of Markdown: rates and ratios to one alternative, or of it to the others where these are `slower`."""
        lines = [
            f"| | {unit}/s median (best) | CPU us | {f'{to} is faster by' if slower else f'to {to}'}: wall | CPU |",
            "|---|---|---|---|---|",
        ]
        for name in sorted(self.wall, key=self.rate, reverse=True):
            wall, cpu = self.ratio(to, name) if slower else self.ratio(name, to)
            lines.append(
                f"| {name} | {self.rate(name):,.0f} ({self.best(name):,.0f}) | {self.cost(name):,.0f} |"
                f" {wall:.2f} | {cpu:.2f} |"
            )
        return lines


def load() -> str:
    """The machine's load, for a reader to judge the figures by."""
    return "load " + " ".join(f"{value:.1f}" for value in os.getloadavg()) + f" on {os.cpu_count()} cores"
