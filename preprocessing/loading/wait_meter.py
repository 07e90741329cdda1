"""Wait meter: tells whether reading waits for a disk or a network rather than for the processor."""

import time


class WaitMeter:
    """A context that compares the time its thread spent computing with the time that went by.

    Attributes:
        waited: whether the latest work waited for a fifth of its time or more; true before the first.
    """

    def __init__(self) -> None:
        self.waited = True

    def __enter__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        # A thread's own time stands still while it waits.
        self.waited = time.thread_time() - self._processor < 0.8 * (time.perf_counter() - self._clock)
