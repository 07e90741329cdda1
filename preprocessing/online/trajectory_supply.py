"""Trajectory supply: simulates trajectories before they are needed, and forgets them afterwards."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Condition, Thread
from weakref import WeakValueDictionary

from pelagos.preprocessing.errors import PelagosError
from pelagos.preprocessing.online.producer import Producer, Trajectory
from pelagos.preprocessing.online.simulation import Simulation

_READ, _HELD, _AHEAD = range(3)
"""Why a trajectory is wanted, most urgent first: about to be read, in the reservoir, next to enter it."""


@dataclass(eq=False)
class Request:
    """A request for a trajectory, which is kept in memory for as long as anyone holds its request.

    Attributes:
        number: number of the trajectory.
        urgency: why it is wanted.
        trajectory: the result, once it is simulated.
    """

    number: int
    urgency: int = _AHEAD
    trajectory: Trajectory | None = None


class TrajectorySupply:
    """Simulates what is requested, most urgent first, in processes of its own; safe to share between threads.

    The producers start with the first request and are idle when nothing is requested. They end with `close`, or when
    this process ends, however that happens.

    Attributes:
        simulated: number of trajectories simulated so far.
        began: time of the first request by `time.monotonic` [s].
    """

    def __init__(self, simulation: Simulation, producers: int) -> None:
        self._simulation, self._number = simulation, producers
        self._producers: list[Producer] = []
        self._threads: list[Thread] = []
        # Only weakly: the reservoir and the batches still to be read hold their requests, what nobody holds goes, and
        # what is asked for nevertheless is simulated again to the same bits.
        self._requests: WeakValueDictionary[int, Request] = WeakValueDictionary()
        self._pending: WeakValueDictionary[int, Request] = WeakValueDictionary()
        self._held: dict[int, list[Request]] = {}
        self._changed = Condition()
        self._failure: Exception | None = None
        self._closed, self._released = False, 0
        self.simulated, self.began = 0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Time that all producers together have spent on simulation [s]."""
        return sum(producer.seconds for producer in self._producers)

    def keep(self, lane: int, held: Iterable[int], coming: Iterable[int]) -> None:
        """Keep these trajectories of a lane, and prepare those that come next, in place of the earlier ones."""
        with self._changed:
            requests = [self._request(number, _HELD) for number in held]
            self._held[lane] = [*requests, *(self._request(number, _AHEAD) for number in coming)]
            self._start()
            self._changed.notify_all()

    def request(self, numbers: Iterable[int]) -> tuple[Request, ...]:
        """Requests for trajectories about to be read, to be held until they have been."""
        with self._changed:
            requests = tuple(self._request(number, _READ) for number in dict.fromkeys(numbers))
            self._start()
            self._changed.notify_all()
        return requests

    def get(self, number: int) -> Trajectory:
        """A trajectory; waits until it is simulated, again if nobody has held its request.

        Raises:
            PelagosError: it, or another one, cannot be simulated.
        """
        request = self._requests.get(number)
        if request is None or request.trajectory is None:
            request = self._awaited(number)
        if request.trajectory is not None:
            return request.trajectory
        raise self._failure or PelagosError(f"trajectory {number} is no longer waited for")

    def count(self) -> tuple[int, int]:
        """How many trajectories of the reservoir are ready, and how many it should have."""
        with self._changed:
            held = [r for requests in self._held.values() for r in requests if r.urgency < _AHEAD]
        return sum(request.trajectory is not None for request in held), len(held)

    def release(self) -> None:
        """Forget all lanes, and end every wait in `get` with an error."""
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
            # Killed, not asked to end: the batch that it is at may take long.
            producer.kill()
            thread.join()

    def _awaited(self, number: int) -> Request:
        """The request, with its trajectory unless simulation failed or the wait was ended."""
        [request], released = self.request([number]), self._released
        with self._changed:
            self._changed.wait_for(
                lambda: request.trajectory or self._failure or self._closed or self._released > released
            )
        return request

    def _request(self, number: int, urgency: int) -> Request:
        request = self._requests.get(number)
        if request is None:
            request = self._requests[number] = self._pending[number] = Request(number)
        # The same trajectory may be held by the reservoir and asked for by a batch: the most urgent reason counts.
        request.urgency = min(request.urgency, urgency)
        return request

    def _start(self) -> None:
        if self._producers or self._closed:
            return
        self.began = time.monotonic()
        self._producers = [Producer(self._simulation) for _ in range(self._number)]
        self._threads = [Thread(target=self._produce, args=[p], daemon=True) for p in self._producers]
        for thread in self._threads:
            thread.start()

    def _produce(self, producer: Producer) -> None:
        """Have a producer work until the supply is closed."""
        try:
            while self._work(producer):
                pass
        except Exception as error:
            with self._changed:
                # Told to whoever waits, rather than lost with this thread.
                self._failure = error
                self._changed.notify_all()
        finally:
            producer.close()

    def _work(self, producer: Producer) -> bool:
        """Do one task; False at the end."""
        task = self._next_task()
        if not task:
            return False
        made = producer.simulate([request.number for request in task])
        with self._changed:
            for request, trajectory in zip(task, made, strict=True):
                request.trajectory = trajectory
            self.simulated += len(task)
            self._changed.notify_all()
        return True

    def _next_task(self) -> list[Request]:
        """What to simulate next, as one batch; empty at the end."""
        with self._changed:
            while not self._closed:
                if task := self._most_urgent():
                    for request in task:
                        del self._pending[request.number]
                    return task
                self._changed.wait()
            return []

    def _most_urgent(self) -> list[Request]:
        """The most urgent pending requests; those ahead of need wait until they fill a batch."""
        batch = self._simulation.batch
        wanted = sorted(self._pending.values(), key=lambda request: (request.urgency, request.number))
        if wanted and wanted[0].urgency < _AHEAD:
            # Shared evenly among the producers: someone is waiting.
            return wanted[: min(batch, -(-len(wanted) // self._number))]
        return wanted[:batch] if len(wanted) >= batch else []
