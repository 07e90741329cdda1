"""Several processes of one command on this machine, for laptops and tests; clusters use srun or torchrun."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pelagos.preprocessing.errors import PelagosError


class ProcessError(PelagosError, RuntimeError):
    """One of several launched processes failed; it has printed why."""


def run(arguments: Sequence[str], processes: int) -> None:
    """`python -m pelagos.pipeline ARGUMENTS` as that many processes that can reach each other.

    Raises:
        ProcessError: one failed; the others are ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_child(arguments, rank, processes, port) for rank in range(processes)]
    try:
        while any(child.poll() is None for child in children):
            failed = [child for child in children if child.poll() not in (None, 0)]
            if failed:
                # The peers of a failed process wait for it in a collective, perhaps for ever.
                time.sleep(1.0)
                break
            time.sleep(0.05)
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
        for child in children:
            child.wait()
    failed = [child for child in children if child.returncode != 0]
    if failed:
        codes = [child.returncode for child in children]
        raise ProcessError(f"{' '.join(arguments)} failed; its {processes} processes ended with {codes}")


def _child(arguments: Sequence[str], rank: int, processes: int, port: int) -> "subprocess.Popen[bytes]":
    threads = max(1, (os.cpu_count() or 1) // processes)
    environment = dict(
        os.environ,
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", str(threads)),
    )
    return subprocess.Popen([sys.executable, "-m", "pelagos.pipeline", *arguments], env=environment)
