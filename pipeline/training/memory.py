"""Memory: the peak of a process, and of a command with all its processes; freed memory given back."""

import ctypes
import re
import resource
import sys
import threading
from pathlib import Path
from types import TracebackType

import psutil


def peak_memory() -> int:
    """The peak resident memory of this process [bytes]."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    if found:
        return int(found[1]) * 1024
    # Not on Linux, where this is inherited from the process that started this one.
    # macOS reports bytes, other systems kilobytes.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def give_back_freed() -> None:
    """Give the memory that has been freed back to the system, where the C library can (glibc)."""
    # It keeps what networks have freed in small pieces, into which none of the larger arrays that follow fits.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class PeakMemory:
    """Samples the resident memory of this process and its descendants while the context lasts.

    Pages that processes share count once for each, so `peak` [bytes] is an upper bound.
    """

    def __init__(self, interval: float = 0.5) -> None:
        self.peak = 0
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, _resident())


def _resident() -> int:
    process = psutil.Process()
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:  # it ended between being listed and being asked
            continue
    return total
