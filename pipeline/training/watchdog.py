"""Watchdog: notices that training stands still, and says which process the others wait for."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pelagos.pipeline.engine import distributed


@dataclass
class Sight:
    """What was last heard of a process.

    Attributes:
        beat: number of its last sign of life.
        alive: when that came, by the hearer's clock.
        marks: how far it is: how often it has said what it does.
        moved: when it came that far, likewise.
        doing: what it does now, at which step and where.
    """

    beat: int = -1
    alive: float = 0.0
    marks: int = -1
    moved: float = 0.0
    doing: str = "has not begun"


class Watchdog:
    """Tells the other processes how far this one is, and watches how far they are.

    A process that waits in a collective cannot say what for, but whoever is behind all others is what they
    wait for; and one that is frozen, or whose machine is gone, gives no sign of life.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._rank, self._world = distributed.rank(), distributed.world()
        self._mine = Sight(beat=0, marks=0)
        self._seen = [Sight() for _ in range(self._world)]
        self._told = ""
        self._stop = threading.Event()

    def mark(self, step: int, activity: str) -> None:
        """Say what this process does from now on."""
        self._mine.doing = f"{activity} at step {step} on {socket.gethostname()}"
        self._mine.marks += 1

    def run(self) -> None:
        """Exchange signs of life until stopped."""
        store = distributed.store_client(self._patience)
        lost = time.monotonic()
        while not self._stop.wait(self._patience / 10):
            try:
                self._exchange(store)
                lost = time.monotonic()
                self._tell(self.verdict(lost))
            except RuntimeError:  # of the store, whose server is a thread of rank 0 or of the launcher
                silence = time.monotonic() - lost
                if silence > self._patience:
                    self._tell("rank 0, or the launcher that keeps the processes' addresses, does not answer")

    def stop(self) -> None:
        """End soon."""
        self._stop.set()

    def _exchange(self, store: distributed.Store) -> None:
        self._mine.beat += 1
        mine = [self._mine.beat, self._mine.marks, self._mine.doing]
        store.set(f"pelagos/watchdog/{self._rank}", json.dumps(mine))
        for rank in range(self._world):
            key = f"pelagos/watchdog/{rank}"
            if store.check([key]):
                beat, marks, doing = json.loads(store.get(key))
                self.hear(rank, beat, marks, doing, time.monotonic())

    def hear(self, rank: int, beat: int, marks: int, doing: str, now: float) -> None:
        """Take in what a process has said."""
        sight = self._seen[rank]
        if beat != sight.beat:
            sight.beat, sight.alive = beat, now
        if marks != sight.marks:
            sight.marks, sight.moved, sight.doing = marks, now, doing

    def verdict(self, now: float) -> str:
        """Who keeps training from going on; empty as long as it does, or where another process says so."""
        begun = [sight for sight in self._seen if sight.beat >= 0]
        if len(begun) < self._world or now - max(sight.moved for sight in begun) < self._patience:
            return ""
        silent = [r for r, sight in enumerate(self._seen) if now - sight.alive > self._patience]
        behind = min(sight.marks for sight in self._seen)
        late = silent or [r for r, sight in enumerate(self._seen) if sight.marks == behind]
        speakers = [rank for rank in range(self._world) if rank not in late] or [0]
        if self._rank != speakers[0]:
            return ""
        if len(late) == self._world:
            return f"all processes stand still: rank 0 {self._seen[0].doing}"
        how = "gives no sign of life; when last heard it" if silent else "stands still: it"
        return "; ".join(f"rank {rank} {how} {self._seen[rank].doing}" for rank in late)

    def _tell(self, verdict: str) -> None:
        """Say something once."""
        if verdict and verdict != self._told:
            clock = time.strftime("%H:%M:%S", time.localtime(time.time() - self._patience))
            print(f"WARNING: since {clock} or before, {verdict}", file=sys.stderr, flush=True)
        self._told = verdict


@contextmanager
def watchdog(patience: float) -> Iterator[Watchdog]:
    """One that barks after so many seconds without progress; never where there is one process, or 0 seconds."""
    dog = Watchdog(patience)
    if not patience or distributed.world() == 1:
        yield dog
        return
    thread = threading.Thread(target=dog.run, name="watchdog", daemon=True)
    thread.start()
    try:
        yield dog
    finally:
        dog.stop()
        thread.join(timeout=1.0)  # it may wait for a store that is gone
