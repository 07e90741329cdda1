"""Reading in processes of their own, into memory that is shared: for codecs whose decoding binds.

Each is `python -m pelagos.preprocessing.loading.reading_process` and speaks JSON lines: it is told once where the
memory is and which datasets there are, then which samples go into which slot. It ends with its input, so
never outlives whoever started it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from pelagos.preprocessing import errors
from pelagos.preprocessing.errors import PelagosError
from pelagos.preprocessing.loading.batch_ring import RingShape
from pelagos.preprocessing.loading.wait_meter import Waits
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Block
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.shared_memory import SharedMemory, mapped


class ReadingProcess:
    """One process that fills slots, one at a time."""

    def __init__(self, memory: SharedMemory, shape: RingShape, datasets: Sequence[Dataset]) -> None:
        setup = {
            "descriptor": memory.descriptor,
            "shape": asdict(shape),
            "datasets": [
                {"config": d.config.model_dump(mode="json"), "normalizer": d.normalizer.to_json()}
                for d in datasets
            ],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[memory.descriptor],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt from the keyboard is for whoever started it
        )
        self._send(setup)

    def fill(self, slot: int, block: Block, *, scaled: bool) -> None:
        """Have a block read into a slot; waits until it is there.

        Raises:
            DamagedFileError: a shard is missing or damaged.
            PelagosError: the process is gone.
        """
        task = {
            "slot": slot,
            "dataset": block.dataset,
            "samples": block.samples.tolist(),
            "steps": block.steps,
            "scaled": scaled,
        }
        self._send(task)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PelagosError(
                f"a process that reads batches ended with status {self._process.wait()}, perhaps for want of "
                "memory; its own message, if any, stands above"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["error"], RuntimeError)(answer["message"])

    def _send(self, values: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            print(json.dumps(values), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return  # the answer that is missing tells

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def main() -> None:
    """Fill slots as the lines of the standard input ask."""
    setup = json.loads(sys.stdin.readline())
    shape = RingShape(**setup["shape"])
    slots = shape.slots(mapped(setup["descriptor"], shape.bytes))
    present = np.ones(shape.targets, bool)
    datasets = [
        DatasetConfig.model_validate(values["config"]).open(Normalizer.from_json(values["normalizer"]))
        for values in setup["datasets"]
    ]
    waits = Waits()
    for line in sys.stdin:
        task = json.loads(line)
        number, samples = task["dataset"], np.array(task["samples"])
        buffers = slots[task["slot"]].buffers(number, datasets[number], shape.micro_batch, present)
        answer = {}
        try:
            frames = datasets[number].frames_of(samples, task["steps"])
            with waits:
                datasets[number].read(frames, buffers, scaled=task["scaled"], warm=not waits.last)
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
