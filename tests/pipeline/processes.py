"""Real processes that can reach each other, started at little cost.

Importing torch, deepspeed and the stages takes longer than most tests. A server process does it once,
and the processes are forked from it; each can be killed like any other.
"""

import multiprocessing
import os
import runpy
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pelagos.pipeline.cluster.launch import process_environments

PRELOADED = [
    "pelagos.pipeline.stages.pretrain",
    "torch._dynamo",
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "mlflow.store.tracking.sqlalchemy_store",
]


class Team:
    """Processes that run one function of a file."""

    def __init__(self, module: Path, function: str, processes: int, arguments: dict[str, Any]) -> None:
        """Start `function(**arguments)` of the file in each process."""
        os.environ.update(OMP_NUM_THREADS="1", DS_ACCELERATOR="cpu")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._output = Path(tempfile.mkstemp(prefix="pelagos-test-")[1])
        self.members: list[BaseProcess] = [
            context.Process(
                target=_member, args=(environment, str(self._output), str(module), function, arguments)
            )
            for environment in process_environments(processes)
        ]
        for member in self.members:
            member.start()

    def kill(self) -> None:
        """End all at once, as a power cut would."""
        for member in self.members:
            member.kill()
        self.join()

    def join(self) -> str:
        """Wait for the end; returns what the processes have printed."""
        for member in self.members:
            member.join(timeout=300)
        text = self._output.read_text()
        self._output.unlink()
        return text

    @property
    def alive(self) -> bool:
        """Whether any is running."""
        return any(member.is_alive() for member in self.members)

    @property
    def codes(self) -> list[int | None]:
        """How the processes have ended."""
        return [member.exitcode for member in self.members]


def run(module: Path, function: str, processes: int, arguments: dict[str, Any]) -> None:
    """Call `function(**arguments)` of the file in each process; a failure shows what was printed."""
    team = Team(module, function, processes, arguments)
    output = team.join()
    assert team.codes == [0] * processes, output


def _member(
    environment: dict[str, str], output: str, module: str, function: str, arguments: dict[str, Any]
) -> None:
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    runpy.run_path(module)[function](**arguments)
