"""Builds in forked copies of a process that has everything imported, killed when they are told to be.

Reads orders as lines of JSON, `{"configs": [...], "kill_after": seconds or null, "await": path or null}`: one
build a configuration, side by side, each in a session of its own, so that its Dask workers die with it. The
time runs from the moment that one file more lies in the folder `await`. Answers with the exit codes; minus nine
is a build that was killed.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.files.durable import LockedError

LOCKED = 3


def begin(config: str) -> int:
    process = os.fork()
    if process:
        return process
    os.setsid()
    code = 1
    try:
        build(BuildConfig.model_validate_json(config))
        code = 0
    except LockedError:
        code = LOCKED
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def count(folder: Path) -> int:
    """Files in a folder; none where there is no folder any more, since the store has just taken its name."""
    try:
        return sum(name.endswith(".json") for name in os.listdir(folder))
    except FileNotFoundError:
        return 0


def serve(order: dict[str, Any]) -> list[int]:
    before = count(Path(order["await"])) if order["await"] else 0
    processes = [begin(config) for config in order["configs"]]
    if order["await"]:
        while count(Path(order["await"])) == before and not all(map(ended, processes)):
            time.sleep(0.001)
    if order["kill_after"] is not None:
        time.sleep(order["kill_after"])
        for process in processes:
            # Not yet in a session of its own for a moment after the fork: then it alone is killed.
            try:
                os.killpg(process, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(process, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
