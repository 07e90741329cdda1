"""Supply: simulated trajectories by number, made by producers ahead of their use and forgotten after it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Condition, Thread
from weakref import WeakValueDictionary

from pelagos.preprocessing.errors import PelagosError
from pelagos.preprocessing.online.producer import Producer, Trajectory
from pelagos.preprocessing.online.simulation import Simulation

_READ, _HELD, _AHEAD = range(3)
"""Why a trajectory is wanted, the most urgent first: to be read now, in the reservoir, soon to come into it."""


@dataclass(eq=False)
class Entry:
    """A trajectory that somebody wants; it is kept for as long as somebody has its entry.

    Attributes:
        number: of the trajectory.
        urgency: why it is wanted.
        trajectory: once it is simulated.
    """

    number: int
    urgency: int = _AHEAD
    trajectory: Trajectory | None = None


class Supply:
    """Simulates what is wanted, the most urgent first, in processes of its own; safe to share between threads.

    Without something wanted producers wait. They start with the first wish and end with `close`, or when
    this process ends, however that happens.

    Attributes:
        simulated: trajectories that were made.
        began: when there was the first wish, by the clock `time.monotonic`.
    """

    def __init__(self, simulation: Simulation, producers: int) -> None:
        self._simulation, self._number = simulation, producers
        self._producers: list[Producer] = []
        self._threads: list[Thread] = []
        self._entries: WeakValueDictionary[int, Entry] = WeakValueDictionary()
        self._untaken: WeakValueDictionary[int, Entry] = WeakValueDictionary()
        self._held: dict[int, list[Entry]] = {}
        self._changed = Condition()
        self._failure: Exception | None = None
        self._closed, self._released = False, 0
        self.simulated, self.began = 0, time.monotonic()

    @property
    def seconds(self) -> float:
        """That all producers have spent on simulation."""
        return sum(producer.seconds for producer in self._producers)

    def hold(self, lane: int, held: Iterable[int], coming: Iterable[int]) -> None:
        """Keep the trajectories of a lane and those that come next, instead of those it had before."""
        with self._changed:
            entries = [self._entry(number, _HELD) for number in held]
            self._held[lane] = [*entries, *(self._entry(number, _AHEAD) for number in coming)]
            self._start()
            self._changed.notify_all()

    def lease(self, numbers: Iterable[int]) -> tuple[Entry, ...]:
        """Entries of trajectories that will be read soon, to be had until that is done."""
        with self._changed:
            entries = tuple(self._entry(number, _READ) for number in dict.fromkeys(numbers))
            self._start()
            self._changed.notify_all()
        return entries

    def get(self, number: int) -> Trajectory:
        """A trajectory; waits until it is simulated, which it is anew if nobody has kept its entry.

        Raises:
            PelagosError: it, or another one, cannot be simulated.
        """
        entry = self._entries.get(number)
        if entry is None or entry.trajectory is None:
            entry = self._awaited(number)
        if entry.trajectory is not None:
            return entry.trajectory
        raise self._failure or PelagosError(f"trajectory {number} is not waited for any more")

    def fill(self) -> tuple[int, int]:
        """How many trajectories of the reservoir are there, and how many should be."""
        with self._changed:
            held = [e for entries in self._held.values() for e in entries if e.urgency < _AHEAD]
        return sum(entry.trajectory is not None for entry in held), len(held)

    def release(self) -> None:
        """Forget all lanes; whoever waits is let go."""
        with self._changed:
            self._held.clear()
            self._released += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the producers."""
        self.release()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for producer, thread in zip(self._producers, self._threads, strict=True):
            producer.kill()
            thread.join()

    def _awaited(self, number: int) -> Entry:
        """The entry, with its trajectory unless something failed, or all were let go."""
        [entry], released = self.lease([number]), self._released
        with self._changed:
            self._changed.wait_for(
                lambda: entry.trajectory or self._failure or self._closed or self._released > released
            )
        return entry

    def _entry(self, number: int, urgency: int) -> Entry:
        entry = self._entries.get(number)
        if entry is None:
            entry = self._entries[number] = self._untaken[number] = Entry(number)
        entry.urgency = min(entry.urgency, urgency)
        return entry

    def _start(self) -> None:
        if self._producers or self._closed:
            return
        self.began = time.monotonic()
        self._producers = [Producer(self._simulation) for _ in range(self._number)]
        self._threads = [Thread(target=self._produce, args=[p], daemon=True) for p in self._producers]
        for thread in self._threads:
            thread.start()

    def _produce(self, producer: Producer) -> None:
        """Have a producer simulate what is wanted, until the end."""
        try:
            while self._work(producer):
                pass
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            producer.close()

    def _work(self, producer: Producer) -> bool:
        """Do one task; returns whether there may be others."""
        task = self._take()
        if not task:
            return False
        made = producer.simulate([entry.number for entry in task])
        with self._changed:
            for entry, trajectory in zip(task, made, strict=True):
                entry.trajectory = trajectory
            self.simulated += len(task)
            self._changed.notify_all()
        return True

    def _take(self) -> list[Entry]:
        """What to simulate together next; nothing at the end."""
        with self._changed:
            while not self._closed:
                if task := self._due():
                    for entry in task:
                        del self._untaken[entry.number]
                    return task
                self._changed.wait()
            return []

    def _due(self) -> list[Entry]:
        """The most urgent of what is wanted; nothing urgent waits until there is enough to be solved together."""
        batch = self._simulation.batch
        wanted = sorted(self._untaken.values(), key=lambda entry: (entry.urgency, entry.number))
        if wanted and wanted[0].urgency < _AHEAD:
            return wanted[: min(batch, -(-len(wanted) // self._number))]
        return wanted[:batch] if len(wanted) >= batch else []
