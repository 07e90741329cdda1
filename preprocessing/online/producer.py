"""Producer: a child process that simulates trajectories, and hands them over in shared memory."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.loading.child_process import (
    ChildEndedError,
    ChildError,
    ChildProcess,
    Message,
    serve,
)
from pelagos.preprocessing.loading.shared_memory import SharedMemory
from pelagos.preprocessing.online.simulation import Simulation, simulate_trajectories, template

Frames = NDArray[np.float32]
_log = logging.getLogger(__name__)
_ATTEMPTS = 3  # a kill by the system may be bad luck once or twice


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One simulated trajectory, as a build would store it.

    Attributes:
        state: (T, C, H, W) channels that depend on time.
        static: (C, H, W) channels that do not.
        scalars: (S,) parameters.
    """

    state: Frames
    static: Frames
    scalars: NDArray[np.float64]


@dataclass(frozen=True)
class TrajectoryShape:
    """Sizes of a trajectory: times, channels and static channels, rows, columns."""

    times: int
    channels: int
    static: int
    height: int
    width: int

    @classmethod
    def of(cls, fields: FieldReader) -> "TrajectoryShape":
        """The shape of a dataset's trajectories."""
        return cls(len(fields.axis), len(fields.state), len(fields.static), *fields.grid.shape)

    @property
    def frames(self) -> int:
        """Number of all fields of a trajectory, (H, W) each."""
        return self.times * self.channels + self.static

    def arrays(self, memory: NDArray[np.uint8]) -> Frames:
        """(N, frames, H, W) the memory of several trajectories."""
        return memory.view(np.float32).reshape(-1, self.frames, self.height, self.width)

    @property
    def bytes(self) -> int:
        """Memory of a trajectory [bytes]."""
        return 4 * self.frames * self.height * self.width


class Producer:
    """A process that simulates; if it dies, another takes its place and repeats the latest task.

    Attributes:
        seconds: time spent on simulation [s].
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        # Of zeros: the sizes are needed before anything is simulated.
        self._shape = TrajectoryShape.of(select_fields(template(simulation), FieldOptions()))
        self._memory = SharedMemory(simulation.batch * self._shape.bytes)
        self._lock, self._closed, self.seconds = Lock(), False, 0.0
        self._process = self._start()

    def simulate(self, numbers: Sequence[int]) -> list[Trajectory]:
        """The trajectories of these numbers, at most the simulation's `batch`; waits until they are there.

        Raises:
            ChildEndedError: the process has ended again and again.
            PelagosError: one of them cannot be simulated.
        """
        told, attempts = ", ".join(map(str, numbers)), 0
        while True:
            try:
                return self._taken(self._process.ask({"trajectories": list(numbers)}), len(numbers))
            except ChildEndedError as error:
                attempts += 1
                if attempts == _ATTEMPTS:
                    message = f"{attempts} times in a row over trajectories {told}: {error}"
                    raise ChildEndedError(message, error.status) from error
                self._replace(error, told)
            except ChildError as error:
                raise DataError(
                    f"equation {self._simulation.equation.kind}: one of the trajectories {told} cannot be simulated: "
                    f"{error}"
                ) from error

    def kill(self) -> None:
        """End the process at once, whatever it is doing, and start no other; for any thread."""
        with self._lock:
            self._closed = True
            self._process.kill()

    def close(self) -> None:
        """The same, for the thread that calls `simulate`."""
        self.kill()
        self._process.close()

    def _start(self) -> ChildProcess:
        setup = {"shape": asdict(self._shape), "simulation": self._simulation.model_dump(mode="json")}
        return ChildProcess(__spec__.name, "simulates", self._memory, setup)

    def _replace(self, error: ChildEndedError, told: str) -> None:
        with self._lock:
            # A child that `kill` ended needs no successor.
            if self._closed:
                raise error
            self._process.close()
            _log.warning("%s; trajectories %s are begun again", error, told)
            self._process = self._start()

    def _taken(self, answer: Message, count: int) -> list[Trajectory]:
        """What lies in the memory, copied from there: the next task overwrites it."""
        self.seconds += answer["seconds"]
        made = [fields.copy() for fields in self._shape.arrays(self._memory.values)[:count]]
        frames, frame = self._shape.times * self._shape.channels, (self._shape.height, self._shape.width)
        return [
            Trajectory(one[:frames].reshape(self._shape.times, -1, *frame), one[frames:], np.array(scalars))
            for one, scalars in zip(made, answer["scalars"], strict=True)
        ]


def _start(setup: Message, memory: NDArray[np.uint8]) -> Callable[[Message], Message]:
    """What answers in the child: simulates the trajectories of a task."""
    simulation = Simulation.model_validate(setup["simulation"])
    arrays = TrajectoryShape(**setup["shape"]).arrays(memory)

    def answer(task: Message) -> Message:
        began = time.monotonic()
        scalars = _simulate(simulation, task["trajectories"], arrays)
        return {"scalars": scalars, "seconds": time.monotonic() - began}

    return answer


def _simulate(simulation: Simulation, numbers: list[int], arrays: Frames) -> list[list[float]]:
    """Simulate trajectories into the first places; returns the parameters of each."""
    # By the same selection as a build, so that channels have the order and the form of stored ones.
    fields = select_fields(simulate_trajectories(simulation, numbers), FieldOptions())
    every = slice(0, len(numbers))
    state = fields.read(every, slice(0, len(fields.axis)))
    # Frames first, then static fields, as `_taken` finds them.
    split = state.shape[1] * state.shape[2]
    arrays[every, :split] = state.reshape(len(numbers), split, *state.shape[3:])
    if fields.static:
        arrays[every, split:] = fields.read_static(every)
    return np.stack([*fields.params.values()], axis=1).tolist() if fields.params else [[]] * len(numbers)


if __name__ == "__main__":
    serve(_start)
