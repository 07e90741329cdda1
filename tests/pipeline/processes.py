"""Runs a function of a test module in several processes that can reach each other."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pelagos.pipeline.launch import environments


def run(module: Path, function: str, processes: int, arguments: dict[str, Any]) -> None:
    """Call `function(**arguments)` of the file in each process; a failure shows what it printed."""
    code = (
        f"import json, runpy; f = runpy.run_path({str(module)!r})[{function!r}]; "
        f"f(**json.loads({json.dumps(arguments)!r}))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments(processes)
    ]
    outputs = [child.communicate(timeout=300)[0] for child in children]
    assert all(child.returncode == 0 for child in children), "\n".join(outputs)
