"""Interruption: a signal asks a run to stop, and all processes agree on the step after which they do."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pelagos.pipeline.engine import distributed
from pelagos.preprocessing.errors import StoppedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Signals that ask for a stop: the end of a job, SLURM's warning before its time limit, and Ctrl-C."""


class StopRequest:
    """Whether a run was asked to stop; the training loop looks after each step."""

    def __init__(self) -> None:
        self.reason = ""

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Note a signal; a second Ctrl-C interrupts at once, as if there were no handler."""
        self.reason = self.reason or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def asked(self) -> bool:
        """Whether this process was asked to stop."""
        return bool(self.reason)

    def agreed(self, count: float | None = None) -> bool:
        """Whether any process was asked to stop; the same answer on all, which must call this at the same step.

        Args:
            count: how many were, where a step has summed that over processes with the rest of what it reports.
        """
        # Signals reach processes at different steps. One that stopped alone would leave the others waiting for it in a
        # collective.
        if distributed.world() == 1:
            return self.asked()
        if count is None:
            [count] = distributed.all_sum([float(self.asked())])
        if count:
            self.reason = self.reason or "another process"
        return count > 0


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Receive signals as requests in this block.

    After a block that raises StoppedError, SIGTERM and SIGUSR1 stay ignored, so that the process can end in order.
    """
    request = StopRequest()
    # Python lets the main thread alone set signal handlers.
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    except StoppedError:
        # More signals may follow: a launcher passes on a Ctrl-C that its processes had from the terminal, too. One
        # that was closing its tracking run died of that.
        before |= {signal.SIGTERM: signal.SIG_IGN, signal.SIGUSR1: signal.SIG_IGN}
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
