"""Runs a function of a test module in several processes that can reach each other."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(module: Path, function: str, processes: int, arguments: dict[str, Any]) -> None:
    """Call `function(**arguments)` of the file in each process; a failure shows what it printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        f"import json, runpy; f = runpy.run_path({str(module)!r})[{function!r}]; "
        f"f(**json.loads({json.dumps(arguments)!r}))"
    )
    children = []
    for rank in range(processes):
        environment = dict(
            os.environ,
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(processes),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            OMP_NUM_THREADS="1",
        )
        command = [sys.executable, "-c", code]
        children.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    outputs = [child.communicate(timeout=300)[0] for child in children]
    assert all(child.returncode == 0 for child in children), "\n".join(outputs)
