"""Stopping in time: a signal asks for it, all processes agree on the step, and a checkpoint is left behind."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pelagos.pipeline.engine import distributed
from pelagos.preprocessing.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What asks for a stop: the end of a job or of its time, SLURM's warning before that, and Ctrl-C."""


class StopRequest:
    """Whether a run was asked to stop, which a loop asks after each step."""

    def __init__(self) -> None:
        self.reason = ""

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Note a signal; a second Ctrl-C interrupts at once, as if there was no handler."""
        self.reason = self.reason or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def agreed(self) -> bool:
        """Whether any process was asked; the same on all, which must call this at the same step.

        A signal reaches processes at different steps. One that stopped alone would leave the others
        waiting for it in a collective.
        """
        [count] = distributed.all_sum([float(bool(self.reason))])
        if count:
            self.reason = self.reason or "another process"
        return count > 0


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Take signals as requests in this block; a thread other than the main one cannot, and takes none.

    A process whose block raises StoppedError is to end: it takes its time for that, whatever signal but Ctrl-C comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    except StoppedError:
        # Who has asked may ask again: a launcher passes on the Ctrl-C that its processes had from the terminal, too.
        before |= {signal.SIGTERM: signal.SIG_IGN, signal.SIGUSR1: signal.SIG_IGN}
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
