"""Producer: a process that simulates trajectories, and hands them over in shared memory.

It is `python -m pelagos.preprocessing.online.producer` and speaks JSON lines: it is told once what to simulate and
where the memory is, then which trajectories. It ends with its input, in the midst of a simulation if need be,
so never outlives whoever started it.
"""

import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing import errors
from pelagos.preprocessing.errors import DataError, PelagosError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.online.simulation import Simulation, template, trajectories
from pelagos.preprocessing.shared_memory import SharedMemory, mapped

Frames = NDArray[np.float32]
_log = logging.getLogger(__name__)
_ATTEMPTS = 3


class EndedError(PelagosError, ChildProcessError):
    """A process that simulates ends again and again."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One simulated trajectory, as a build would store it.

    Attributes:
        state: (T, C, H, W) channels that depend on time.
        static: (C, H, W) those that do not.
        scalars: (S,) parameters.
    """

    state: Frames
    static: Frames
    scalars: NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Sizes of a trajectory: times, channels and static channels, rows, columns."""

    times: int
    channels: int
    static: int
    height: int
    width: int

    @classmethod
    def of(cls, fields: FieldReader) -> "Shape":
        """Of the trajectories of a dataset."""
        return cls(len(fields.axis), len(fields.state), len(fields.static), *fields.grid.shape)

    @property
    def frames(self) -> int:
        """All fields of a trajectory."""
        return self.times * self.channels + self.static

    def places(self, memory: NDArray[np.uint8]) -> Frames:
        """(N, frames, H, W) the memory of several trajectories."""
        return memory.view(np.float32).reshape(-1, self.frames, self.height, self.width)

    @property
    def bytes(self) -> int:
        """Of a trajectory."""
        return 4 * self.frames * self.height * self.width


class Producer:
    """One such process; one that ends is replaced, and does its latest task again.

    Attributes:
        seconds: that were spent on simulation.
    """

    def __init__(self, simulation: Simulation) -> None:
        self._shape = Shape.of(select_fields(template(simulation), FieldOptions()))
        self._memory = SharedMemory(simulation.batch * self._shape.bytes)
        self._setup = {
            "descriptor": self._memory.descriptor,
            "shape": asdict(self._shape),
            "simulation": simulation.model_dump(mode="json"),
        }
        self._lock, self._closed, self.seconds = Lock(), False, 0.0
        self._process = self._start()

    def simulate(self, numbers: Sequence[int]) -> list[Trajectory]:
        """The trajectories of these numbers, at most the simulation's `batch`; waits until they are there.

        Raises:
            EndedError: the process has ended again and again.
            PelagosError: one of them cannot be simulated.
        """
        told = ", ".join(map(str, numbers))
        for _ in range(_ATTEMPTS):
            _send(self._process, {"trajectories": list(numbers)})
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if line.endswith("\n"):
                return self._taken(json.loads(line), len(numbers))
            status = _ended(self._process)
            with self._lock:
                if self._closed:
                    break
                _log.warning(
                    "a process that simulates ended with status %d; trajectories %s are begun again",
                    status,
                    told,
                )
                self._process = self._start()
        raise EndedError(
            f"a process that simulates ended with status {status}, {_ATTEMPTS} times over trajectories {told},"
            " perhaps for want of memory; its own message, if any, stands above"
        )

    def kill(self) -> None:
        """End the process at once, whatever it is doing, and start no other; for any thread."""
        with self._lock:
            self._closed = True
            self._process.kill()

    def close(self) -> None:
        """The same, for the thread that calls `simulate`."""
        self.kill()
        _ended(self._process)

    def _start(self) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[self._memory.descriptor],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt from the keyboard is for whoever started it
        )
        _send(process, self._setup)
        return process

    def _taken(self, answer: dict[str, Any], count: int) -> list[Trajectory]:
        """What lies in the memory, copied from there."""
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        self.seconds += answer["seconds"]
        made = [place.copy() for place in self._shape.places(self._memory.values)[:count]]
        frames, frame = self._shape.times * self._shape.channels, (self._shape.height, self._shape.width)
        return [
            Trajectory(one[:frames].reshape(self._shape.times, -1, *frame), one[frames:], np.array(scalars))
            for one, scalars in zip(made, answer["scalars"], strict=True)
        ]


def _ended(process: "subprocess.Popen[str]") -> int:
    """The status of a process that ends or has ended, whose pipes nobody needs any more."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    with suppress(BrokenPipeError):
        process.stdin.close()
    return process.wait()


def _send(process: "subprocess.Popen[str]", values: dict[str, Any]) -> None:
    assert process.stdin is not None
    # Where the process has ended, the answer that is missing tells.
    with suppress(BrokenPipeError):
        print(json.dumps(values), file=process.stdin, flush=True)


def main() -> None:
    """Simulate what the lines of the standard input ask for."""
    setup = json.loads(sys.stdin.readline())
    simulation, shape = Simulation.model_validate(setup["simulation"]), Shape(**setup["shape"])
    places = shape.places(mapped(setup["descriptor"], simulation.batch * shape.bytes))
    tasks: SimpleQueue[str] = SimpleQueue()
    Thread(target=_listen, args=[tasks], daemon=True).start()
    while True:
        print(json.dumps(_answer(simulation, json.loads(tasks.get())["trajectories"], places)), flush=True)


def _listen(tasks: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)


def _answer(simulation: Simulation, numbers: list[int], places: Frames) -> dict[str, Any]:
    began = time.monotonic()
    try:
        scalars = _simulate(simulation, numbers, places)
        return {"scalars": scalars, "seconds": time.monotonic() - began}
    except PelagosError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:
        traceback.print_exc()
        told = f"{', '.join(map(str, numbers))} cannot be simulated: {type(error).__name__}: {error}"
        message = f"equation {simulation.equation.kind}: one of the trajectories {told}"
        return {"error": DataError.__name__, "message": message}


def _simulate(simulation: Simulation, numbers: list[int], places: Frames) -> list[list[float]]:
    """Simulate trajectories into the first places; returns the parameters of each."""
    fields = select_fields(trajectories(simulation, numbers), FieldOptions())
    every = slice(0, len(numbers))
    state = fields.read(every, slice(0, len(fields.axis)))
    split = state.shape[1] * state.shape[2]
    places[every, :split] = state.reshape(len(numbers), split, *state.shape[3:])
    if fields.static:
        places[every, split:] = fields.read_static(every)
    return np.stack([*fields.params.values()], axis=1).tolist() if fields.params else [[]] * len(numbers)


if __name__ == "__main__":
    main()
