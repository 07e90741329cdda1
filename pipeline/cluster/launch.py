"""Launch: several processes of one command on this machine. Clusters use srun or torchrun instead."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from pelagos.pipeline.training.interruption import StopRequest, stop_request
from pelagos.preprocessing.errors import PelagosError, StoppedError

_PR_SET_PDEATHSIG = 1  # of sys/prctl.h, which Python does not export
# Looked up here: a process between fork and exec must not load anything.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)
_FAULT = 70  # EX_SOFTWARE of sysexits.h; what a process that a signal ended stands for


class ProcessError(PelagosError, RuntimeError):
    """One of several launched processes failed; it printed why. It has the highest of their exit codes, as of srun.

    Attributes:
        codes: of those that ended by themselves.
    """

    def __init__(self, message: str, codes: Sequence[int]) -> None:
        super().__init__(message)
        self.codes = tuple(codes)
        self.exit_code = max((code if code > 0 else _FAULT for code in codes if code), default=_FAULT)


def run_processes(arguments: Sequence[str], processes: int) -> None:
    """Run `python -m pelagos.pipeline ARGUMENTS` in several processes that can reach each other.

    Signals that ask for a stop are passed on to all of them. If this process dies, they die with it.

    Raises:
        StoppedError: they stopped because they were asked to.
        ProcessError: one failed, and the others were killed.
    """
    # -P: modules come from where Pelagos is installed and from PYTHONPATH, never from the working folder.
    command = [sys.executable, "-P", "-m", "pelagos.pipeline", *arguments]
    with stop_request() as request:
        children = [
            subprocess.Popen(command, env=environment, preexec_fn=dying_with(os.getpid()))
            for environment in process_environments(processes)
        ]
        own: list[int] = []
        try:
            _wait(children, request)
            # Before the others are killed, whose codes say nothing.
            own = [code for child in children if (code := child.poll()) is not None]
        finally:
            for child in children:
                # Not SIGTERM, which asks for a checkpoint that the peers of a failed process cannot write.
                child.kill()
                child.wait()
        codes = [child.returncode for child in children]
        if all(code == StoppedError.exit_code for code in codes):
            raise StoppedError(f"{processes} processes have stopped")
    if any(codes):
        if request.reason:
            raise KeyboardInterrupt
        raise ProcessError(f"{' '.join(arguments)} failed; its {processes} processes ended with {codes}", own)


def dying_with(parent: int) -> Callable[[], None]:
    """What a child does before it begins: ask the system to end it when its parent ends (prctl(2), Linux)."""

    def ask() -> None:
        if _prctl is not None:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            # The parent may have died before the question.
            if os.getppid() != parent:
                os._exit(_FAULT)

    return ask


def _wait(children: Sequence["subprocess.Popen[bytes]"], request: StopRequest) -> None:
    """Wait until all have ended or one has failed; pass on a request to stop."""
    asked = False
    while any(child.poll() is None for child in children):
        if request.reason and not asked:
            asked = True
            for child in children:
                child.terminate()
        if any(child.poll() not in (None, 0, StoppedError.exit_code) for child in children):
            # Its peers may wait for it in a collective for ever; a second lets them report what they found.
            time.sleep(1.0)
            break
        time.sleep(0.05)


def process_environments(processes: int) -> list[dict[str, str]]:
    """The environments by which several processes on this machine find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Otherwise each process would start as many threads as there are cores.
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    return [
        {
            "OMP_NUM_THREADS": threads,
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        for rank in range(processes)
    ]
