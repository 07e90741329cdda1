"""Watchdog: notices that training stands still, and names the process that the others wait for."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pelagos.pipeline.engine import distributed

_KEYS = "pelagos/watchdog"
_ALL = f"{_KEYS}/all"


@dataclass
class PeerStatus:
    """What was last heard of a process; times are by the clock of the process that heard it.

    Attributes:
        beat: the number of its last heartbeat.
        heard_at: when that heartbeat arrived [s].
        progress: how many activities it has begun.
        progressed_at: when it was first heard to have begun the latest [s].
        activity: that activity, its step and its machine.
    """

    beat: int = -1
    heard_at: float = 0.0
    progress: int = -1
    progressed_at: float = 0.0
    activity: str = "has not begun"


class Watchdog:
    """Tells the other processes how far this one is, and watches how far they are.

    A process in a collective cannot say for whom it waits, but it is for whoever is furthest behind. A process that is
    frozen, or whose machine is gone, sends no heartbeat.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._rank, self._world = distributed.rank(), distributed.world()
        self._mine = PeerStatus(beat=0, progress=0)
        self._seen = [PeerStatus() for _ in range(self._world)]
        self._activity = (self._mine.activity, "")
        self._of: Callable[[], str] = str
        self._reported = ""
        # By whom all were told of all, at which heartbeat of it, and when.
        self._told, self._told_at = [-1, -1], time.monotonic()
        self._stop = threading.Event()

    def mark(self, step: int, activity: str, of: Callable[[], str] = str) -> None:
        """Record what this process does from now on, and what can be said of it once it takes long."""
        self._activity, self._of = (activity, f"at step {step} on {socket.gethostname()}"), of
        self._mine.progress += 1

    def run(self) -> None:
        """Exchange heartbeats until stopped."""
        store = distributed.connect_to_store(self._patience) if self._world > 1 else None
        lost = time.monotonic()
        while not self._stop.wait(self._patience / 10):
            try:
                self._exchange(store)
                lost = time.monotonic()
                self._report(self.verdict(lost))
            except RuntimeError:  # from the store, whose server is a thread of rank 0 or of the launcher
                silence = time.monotonic() - lost
                if silence > self._patience:
                    self._report(
                        "rank 0, or the launcher that keeps the processes' addresses, does not answer"
                    )

    def stop(self) -> None:
        """Let `run` return."""
        self._stop.set()

    def _exchange(self, store: distributed.KeyValueStore | None) -> None:
        self._mine.beat += 1
        (what, when), of = self._activity, self._of()
        self._mine.activity = " ".join(text for text in (what, f"({of})" if of else "", when) if text)
        if store is None:
            self.hear(0, self._mine.beat, self._mine.progress, self._mine.activity, time.monotonic())
            return
        mine = [self._mine.beat, self._mine.progress, self._mine.activity]
        store.set(f"{_KEYS}/{self._rank}", json.dumps(mine))
        for rank, status in enumerate(self._gathered(store)):
            if status:
                beat, progress, activity = status
                self.hear(rank, beat, progress, activity, time.monotonic())

    def _gathered(self, store: distributed.KeyValueStore) -> list[list[Any]]:
        """What each process has last said; empty for one that has said nothing.

        One process asks for all and tells the others: a thousand that each ask a thousand are a million requests.
        """
        now, told = time.monotonic(), json.loads(store.get(_ALL)) if store.check([_ALL]) else None
        # The first gathers; each other one only when those before it have been silent for so long.
        if told and told[0] < self._rank and told[:2] != self._told:
            self._told, self._told_at = told[:2], now
        if self._rank and now - self._told_at < self._patience * (1 + self._rank / self._world):
            return told[2] if told else []
        keys = [f"{_KEYS}/{rank}" for rank in range(self._world)]
        statuses = [json.loads(store.get(key)) if store.check([key]) else [] for key in keys]
        store.set(_ALL, json.dumps([self._rank, self._mine.beat, statuses]))
        return statuses

    def hear(self, rank: int, beat: int, progress: int, activity: str, now: float) -> None:
        """Update what is known of a process."""
        peer = self._seen[rank]
        if beat != peer.beat:
            peer.beat, peer.heard_at = beat, now
        if progress != peer.progress:
            peer.progress, peer.progressed_at, peer.activity = progress, now, activity

    def verdict(self, now: float) -> str:
        """A message on who holds up training; empty while it goes on, or if another process is to report it."""
        # Until all have begun there is no stall: processes start at different speeds.
        begun = [peer for peer in self._seen if peer.beat >= 0]
        if len(begun) < self._world or now - max(peer.progressed_at for peer in begun) < self._patience:
            return ""
        silent = [r for r, peer in enumerate(self._seen) if now - peer.heard_at > self._patience]
        behind = min(peer.progress for peer in self._seen)
        late = silent or [r for r, peer in enumerate(self._seen) if peer.progress == behind]
        # One message is enough, from the first of those that are kept waiting.
        speakers = [rank for rank in range(self._world) if rank not in late] or [0]
        if self._rank != speakers[0]:
            return ""
        if self._world == 1:
            return f"training stands still: it {self._seen[0].activity}"
        if len(late) == self._world:
            return f"all processes stand still: rank 0 {self._seen[0].activity}"
        how = "gives no sign of life; when last heard it" if silent else "stands still: it"
        return "; ".join(f"rank {rank} {how} {self._seen[rank].activity}" for rank in late)

    def _report(self, verdict: str) -> None:
        """Print a message, once."""
        if verdict and verdict != self._reported:
            clock = time.strftime("%H:%M:%S", time.localtime(time.time() - self._patience))
            print(f"WARNING: since {clock} or before, {verdict}", file=sys.stderr, flush=True)
        self._reported = verdict


@contextmanager
def watchdog(patience: float) -> Iterator[Watchdog]:
    """A watchdog that reports after `patience` seconds without progress; never with 0."""
    dog = Watchdog(patience)
    if not patience:
        yield dog
        return
    thread = threading.Thread(target=dog.run, name="watchdog", daemon=True)
    thread.start()
    try:
        yield dog
    finally:
        dog.stop()
        thread.join(timeout=1.0)  # it may be waiting for a store that is gone
