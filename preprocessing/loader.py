"""Loader: one rank's batches in order, read ahead by threads into a ring of reused buffers.

Shapes: B samples, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from threading import Condition, Thread
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pelagos.preprocessing.batch import Batch
from pelagos.preprocessing.dataset import Buffers, Dataset
from pelagos.preprocessing.mixture import Block, Order


@dataclass(eq=False)
class _Slot:
    """One place of the ring: memory for a batch of any of the datasets."""

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    mask: NDArray[np.bool_]
    forcings: NDArray[np.float32]
    views: dict[int, Buffers] = field(default_factory=dict)
    number: int = -1
    batch: Batch | None = None
    error: BaseException | None = None
    copied: Any = None

    def buffers(self, number: int, dataset: Dataset, num: int, present: NDArray[np.bool_]) -> Buffers:
        """The memory in the shape of a dataset's batch."""
        if number not in self.views:
            mask = present if dataset.complete else self.mask
            self.views[number] = Buffers(
                inputs=_carved(self.inputs, (num, *dataset.input_shape)),
                targets=_carved(self.targets, (num, *dataset.target_shape)),
                mask=_carved(mask, (num, *dataset.target_shape)),
                forcings=_carved(self.forcings, (num, *dataset.forcings_shape)),
            )
        return self.views[number]


def _carved(flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return flat[: prod(shape)].reshape(shape)


class Loader:
    """Iterates over batches; each is valid until the next one is asked for.

    Batches are filled in the background. With a GPU the memory is pinned, and a buffer is filled
    again only after the copies that were asked for while its batch was current have ended.
    """

    def __init__(
        self,
        order: Order,
        *,
        rank: int = 0,
        world: int = 1,
        start_step: int = 0,
        num_steps: int | None = None,
        threads: int = 2,
        depth: int = 4,
    ) -> None:
        """Make the memory; reading starts with the iteration.

        Args:
            order: which samples, in which order: a mixture or a sweep.
            rank: of this process.
            world: number of processes.
            start_step: the first global batch.
            num_steps: how many; all that the order has by default.
            threads: that read.
            depth: batches that are read ahead, and their buffers.

        Raises:
            ConfigError: the order cannot be dealt to so many ranks.
        """
        assert threads >= 1
        assert depth >= 2
        order.blocks(rank, world, start_step, num_steps)
        self.order = order
        self._range = (rank, world, start_step, num_steps)
        self._threads = threads
        inputs, targets, forcings = (
            max(prod(shape) for shape in shapes) * order.micro_batch
            for shapes in zip(
                *((d.input_shape, d.target_shape, d.forcings_shape) for d in order.datasets), strict=True
            )
        )
        # Masks of datasets that miss nothing share one memory, which nobody writes to.
        self._present = np.ones(targets, bool)
        self._slots = [
            _Slot(
                _memory(inputs, torch.float32),
                _memory(targets, torch.float32),
                _memory(targets, torch.bool),
                _memory(forcings, torch.float32),
            )
            for _ in range(depth)
        ]

    def __iter__(self) -> Iterator[Batch]:
        """The batches in order.

        Raises:
            DamagedFileError: a batch cannot be read; raised in its place, after those before it.
        """
        reading = _Reading(self.order, self.order.blocks(*self._range), self._slots, self._present)
        threads = [Thread(target=reading.run, daemon=True) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        try:
            while (batch := reading.wait()) is not None:
                yield batch
                reading.release()
        finally:
            reading.stop()
            for thread in threads:
                thread.join()


def _memory(size: int, dtype: torch.dtype) -> NDArray[Any]:
    return torch.empty(size, dtype=dtype, pin_memory=torch.cuda.is_available()).numpy()


class _Reading:
    """What the reading threads and the consumer share during one iteration.

    Blocks are numbered in the order of the batches; number n is filled into slot n modulo the depth.
    """

    def __init__(
        self, order: Order, blocks: Iterator[Block], slots: list[_Slot], present: NDArray[np.bool_]
    ) -> None:
        self._order, self._blocks, self._slots, self._present = order, blocks, slots, present
        self._changed = Condition()
        self._taken = 0  # the next block that a thread will take
        self._current = 0  # the next batch that the consumer will get; those before it are released
        self._end: int | None = None  # the number of blocks, once known
        self._stopped = False
        self._failure: BaseException | None = None  # of drawing blocks
        for slot in slots:
            slot.number, slot.batch, slot.error = -1, None, None

    def run(self) -> None:
        """Take blocks and fill slots until there are no more."""
        while (ticket := self._take()) is not None:
            number, block = ticket
            slot = self._slots[number % len(self._slots)]
            try:
                slot.batch = self._fill(slot, block)
            except Exception as error:
                slot.error = error
            with self._changed:
                slot.number = number
                self._changed.notify_all()

    def _take(self) -> tuple[int, Block] | None:
        """The next block and its number, once its slot is free; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed() or self._taken < self._current + len(self._slots))
            if self._closed():
                return None
            try:
                block = next(self._blocks, None)
            except Exception as error:
                block, self._failure = None, error
            if block is None:
                self._end = self._taken
                self._changed.notify_all()
                return None
            self._taken += 1
            return self._taken - 1, block

    def _ended(self, number: int) -> bool:
        return self._end is not None and self._end <= number

    def _closed(self) -> bool:
        return self._stopped or self._end is not None

    def _fill(self, slot: _Slot, block: Block) -> Batch:
        if slot.copied is not None:
            slot.copied.synchronize()
        dataset = self._order.datasets[block.dataset]
        buffers = slot.buffers(block.dataset, dataset, self._order.micro_batch, self._present)
        return dataset.fill(block.samples, buffers, block.steps)

    def release(self) -> None:
        """Let threads fill the batch that the consumer had last."""
        with self._changed:
            self._mark_copies()
            self._current += 1
            self._changed.notify_all()

    def _mark_copies(self) -> None:
        """Note when the copies to the device end that may still read from the batch."""
        if torch.cuda.is_available():
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._slots[self._current % len(self._slots)].copied = event

    def wait(self) -> Batch | None:
        """The next batch; None at the end."""
        with self._changed:
            slot, number = self._slots[self._current % len(self._slots)], self._current
            self._changed.wait_for(lambda: slot.number == number or self._ended(number))
            if slot.number != number:
                if self._failure is not None:
                    raise self._failure
                return None
        if slot.error is not None:
            raise slot.error
        return slot.batch

    def stop(self) -> None:
        """Let the threads end."""
        with self._changed:
            self._mark_copies()
            self._stopped = True
            self._changed.notify_all()
