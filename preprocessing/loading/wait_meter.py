"""Whether reading waits: for a disk or a network, rather than for the processor."""

import time


class WaitMeter:
    """Measures work by the clock and by what the thread computed.

    Attributes:
        waited: whether the work done last waited for a fifth of its time or more; true before there is any.
    """

    def __init__(self) -> None:
        self.waited = True

    def __enter__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.waited = time.thread_time() - self._processor < 0.8 * (time.perf_counter() - self._clock)
