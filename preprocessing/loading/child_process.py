"""Child process: a module of Pelagos that works beside this process and answers it in lines of JSON.

A child is `python -m` of the module. It is told once what to set up, then one task after another, and answers each
with one line; arrays travel through memory that both share. It ends with its input, in the midst of a task if need be,
and so never outlives whoever started it.
"""

import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing import errors
from pelagos.preprocessing.errors import PelagosError, TemporaryError, system_error
from pelagos.preprocessing.loading.shared_memory import SharedMemory, mapped
from pelagos.preprocessing.safety.credentials import redacted

Message = dict[str, Any]
"""What JSON can say."""


class ChildError(PelagosError, RuntimeError):
    """A child failed in a way that Pelagos has no error for; its traceback is on the standard error."""


class ChildEndedError(PelagosError, ChildProcessError):
    """A child ended before it had answered.

    Attributes:
        status: that it ended with; below 0 the signal that killed it.
    """

    exit_code = TemporaryError.exit_code

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ChildProcess:
    """A child, for one thread; any thread may `kill` it."""

    def __init__(self, module: str, duty: str, memory: SharedMemory, setup: Message) -> None:
        """Start the child, which sets itself up meanwhile.

        Args:
            module: that the child runs, and that calls `serve`.
            duty: what it does, for messages: "reads batches".
            memory: that it shares.
            setup: what `serve` hands on in the child.
        """
        self._duty = duty
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],  # -P: no module from the working folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[memory.descriptor],
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # there are as many children as processors to use
            start_new_session=True,  # an interrupt from the keyboard is for whoever started it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._tasks, self._answers = self._process.stdin, self._process.stdout
        self._send({"memory": [memory.descriptor, len(memory.values)], "setup": setup})

    def ask(self, task: Message) -> Message:
        """What the child answers to a task; waits for it.

        Raises:
            ChildEndedError: the child has ended.
            ChildError: it failed at the task by a mistake of ours.
            PelagosError: it failed at the task; the error is of the class that was raised in the child.
        """
        self._send(task)
        line = self._answers.readline()
        if not line.endswith("\n"):  # the child may die in the midst of a line
            status = self._process.wait()
            raise ChildEndedError(
                f"a process that {self._duty} ended with status {status}, perhaps for want of memory; "
                "its own message, if any, stands above",
                status,
            )
        answer: Message = json.loads(line)
        if "error" in answer:
            raise _error(answer["error"], answer["message"]) from _cause(answer.get("errno", 0))
        return answer

    def kill(self) -> None:
        """End the child at once; whoever waits for its answer is told that it has ended."""
        self._process.kill()

    def close(self) -> int:
        """Let the child end, whatever it is doing; returns its status."""
        self._answers.close()
        with suppress(BrokenPipeError):
            self._tasks.close()
        return self._process.wait()

    def _send(self, message: Message) -> None:
        # Where the child has ended, the answer that is missing tells.
        with suppress(BrokenPipeError):
            print(json.dumps(message), file=self._tasks, flush=True)


def _error(name: str, message: str) -> PelagosError:
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, PelagosError):
        return kind(message)
    return ChildError(f"{name}: {message}")


def _cause(number: int) -> OSError | None:
    """The system's error with this number, from which it is known whether trying again helps."""
    return OSError(number, os.strerror(number)) if number else None


def serve(start: Callable[[Message, NDArray[np.uint8]], Callable[[Message], Message]]) -> None:
    """Answer the tasks of the process that started this one, until it ends.

    Args:
        start: makes the function that answers, of the setup and the shared memory.
    """
    Thread(target=_end_with_input, daemon=True).start()
    first = json.loads(sys.stdin.readline())
    answer = start(first["setup"], mapped(*first["memory"]))
    for line in sys.stdin:
        try:
            told = answer(json.loads(line))
        except Exception as error:
            if not isinstance(error, PelagosError | OSError):
                print(redacted(traceback.format_exc()), file=sys.stderr)
            told = {"error": type(error).__name__, "message": str(error), "errno": system_error(error)}
        print(json.dumps(told), flush=True)


def _end_with_input() -> None:
    # A thread that read the lines itself would cost each task a change of threads. A pipe that its last writer
    # has left hangs up, which `poll` reports without being asked to.
    poll = select.poll()
    poll.register(sys.stdin, 0)
    poll.poll()
    os._exit(0)
