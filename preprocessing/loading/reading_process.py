"""Reading process: a child process that reads batches into shared memory, for codecs that are slow to decode."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.loading.batch_ring import RingShape
from pelagos.preprocessing.loading.child_process import ChildProcess, Message, serve
from pelagos.preprocessing.loading.shared_memory import SharedMemory
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Block
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.sample_reader import WaitMeter
from pelagos.preprocessing.store.sample_store import Statistics
from pelagos.preprocessing.store.store import open_store


class ReadingProcess:
    """One process that fills slots, one at a time."""

    def __init__(self, memory: SharedMemory, shape: RingShape, datasets: Sequence[Dataset]) -> None:
        # Configurations and scales, not datasets: open files and locks do not travel.
        opened = [
            {
                "config": d.config.model_dump(mode="json"),
                "normalizer": d.normalizer.to_json(),
                # Of a few trajectories alone they took reading these, which no child need do again.
                "stats": d.store.stats.to_json(),
                "rows": None if d.rows is None else [d.rows.start, d.rows.stop],
            }
            for d in datasets
        ]
        setup = {"shape": asdict(shape), "datasets": opened}
        self._process = ChildProcess(__spec__.name, "reads batches", memory, setup)

    def fill(self, slot: int, block: Block, *, scaled: bool) -> None:
        """Have a block read into a slot; meter until it is there.

        Raises:
            DamagedFileError: a shard is missing or damaged.
            PelagosError: the process is gone.
        """
        task = {
            "slot": slot,
            "dataset": block.dataset,
            # A few numbers; the fields themselves go through the shared memory.
            "samples": block.samples.tolist(),
            "steps": block.steps,
            "key": block.key,
            "scaled": scaled,
        }
        self._process.ask(task)

    def close(self) -> None:
        """Let the process end."""
        self._process.close()


def _start(setup: Message, memory: NDArray[np.uint8]) -> Callable[[Message], Message]:
    """What answers in the child: fills the slot of a task."""
    shape = RingShape(**setup["shape"])
    slots, present, meter = shape.slots(memory), np.ones(shape.targets, bool), WaitMeter()
    datasets = [_opened(values) for values in setup["datasets"]]

    def answer(task: Message) -> Message:
        number, samples = task["dataset"], np.array(task["samples"])
        buffers = slots[task["slot"]].buffers(
            number, datasets[number], shape.micro_batch, present, scaled=task["scaled"]
        )
        frames = datasets[number].frames_of(samples, task["steps"], task["key"])
        with meter:
            datasets[number].read(frames, buffers, scaled=task["scaled"], warm=not meter.waited)
        return {}

    return answer


def _opened(values: Message) -> Dataset:
    config = DatasetConfig.model_validate(values["config"])
    store = replace(open_store(config.path, config.verify), stats=Statistics.from_json(values["stats"]))
    dataset = config.samples(store, Normalizer.from_json(values["normalizer"]))
    if values["rows"] is not None:
        dataset.share(range(*values["rows"]))
    return dataset


if __name__ == "__main__":
    serve(_start)
