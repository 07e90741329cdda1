"""Several processes of one command on this machine, for laptops and tests; clusters use srun or torchrun."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pelagos.pipeline.training.interruption import StopRequest, stop_request
from pelagos.preprocessing.errors import PelagosError, StoppedError


class ProcessError(PelagosError, RuntimeError):
    """One of several launched processes failed; it has printed why."""


def run(arguments: Sequence[str], processes: int) -> None:
    """`python -m pelagos.pipeline ARGUMENTS` as that many processes that can reach each other.

    A request to stop reaches all of them.

    Raises:
        StoppedError: they stopped because they were asked to.
        ProcessError: one failed; the others are ended.
    """
    command = [sys.executable, "-m", "pelagos.pipeline", *arguments]
    with stop_request() as request:
        children = [subprocess.Popen(command, env=environment) for environment in environments(processes)]
        try:
            _wait(children, request)
        finally:
            for child in children:
                # Not SIGTERM, which asks for a checkpoint: a peer of a failed process cannot write one.
                child.kill()
                child.wait()
        codes = [child.returncode for child in children]
        if all(code == StoppedError.exit_code for code in codes):
            raise StoppedError(f"{processes} processes have stopped")
    if any(codes):
        if request.reason:
            raise KeyboardInterrupt
        raise ProcessError(f"{' '.join(arguments)} failed; its {processes} processes ended with {codes}")


def _wait(children: Sequence["subprocess.Popen[bytes]"], request: StopRequest) -> None:
    """Wait until all have ended, or one has failed; pass a request to stop on to them."""
    asked = False
    while any(child.poll() is None for child in children):
        if request.reason and not asked:
            asked = True
            for child in children:
                child.terminate()
        if any(child.poll() not in (None, 0, StoppedError.exit_code) for child in children):
            # The peers of a failed process wait for it in a collective, perhaps for ever.
            time.sleep(1.0)
            break
        time.sleep(0.05)


def environments(processes: int) -> list[dict[str, str]]:
    """The environment of each of several processes on this machine, by which they find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
