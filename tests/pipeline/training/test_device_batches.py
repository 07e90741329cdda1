"""Batches on their way to a device: when copies are queued, and what waits for them; the device is pretended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch

from pelagos.pipeline.training.device_batches import DeviceBatches
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.samples.batch import Batch, LoadedBatch


class Loaded:
    """A batch that notes when it is copied."""

    def __init__(self, number: int, log: list[str]) -> None:
        self.number, self._log = number, log

    def to(self, device: torch.device) -> Any:
        """Itself."""
        self._log.append(f"copy {self.number}")
        return self


class Copies:
    """A stream that notes what is queued on it and what waits for it."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Note what happens within."""
        self._log.append("[")
        yield
        self._log.append("]")

    def hand_over(self, batch: Batch) -> None:
        """Note the batch."""
        self._log.append(f"wait {cast('Loaded', batch).number}")


def loader(log: list[str], count: int, *, damaged: int = -1) -> Iterator[LoadedBatch]:
    """Batches that note when each is asked for."""
    for number in range(count):
        if number == damaged:
            raise DamagedFileError(f"batch {number}")
        log.append(f"load {number}")
        yield cast("LoadedBatch", Loaded(number, log))


def test_a_batch_is_copied_on_its_own_stream_before_it_is_asked_for() -> None:
    log: list[str] = []
    batches = DeviceBatches(loader(log, 2), torch.device("cuda"), Copies(log))
    batches.take()
    log.append("compute 0")
    batches.fetch()
    log.append("end of step")
    batches.take()
    batches.fetch()  # there is no other
    # The loader is asked on the stream of copies as well: it notes there when it may fill its memory again.
    expected = "[ load 0 copy 0 ] wait 0 compute 0 [ load 1 copy 1 ] end of step wait 1 [ ]"
    assert " ".join(log) == expected


def test_on_the_cpu_no_batch_is_asked_for_before_it_is_needed() -> None:
    log: list[str] = []
    batches = DeviceBatches(loader(log, 2), torch.device("cpu"))
    for number in range(2):
        loaded, batch = batches.take()
        assert cast("Loaded", loaded).number == cast("Loaded", batch).number == number
        batches.fetch()
    assert log == ["load 0", "copy 0", "load 1", "copy 1"]


def test_a_batch_that_cannot_be_read_fails_in_its_own_place() -> None:
    log: list[str] = []
    batches = DeviceBatches(loader(log, 2, damaged=1), torch.device("cuda"), Copies(log))
    batches.take()
    batches.fetch()
    with pytest.raises(DamagedFileError, match="batch 1"):
        batches.take()
