"""Loader: one rank's batches in order, read ahead into a ring of reused buffers."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from threading import Condition, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.loading.batch_ring import RingShape, Slot
from pelagos.preprocessing.samples.batch import LoadedBatch
from pelagos.preprocessing.samples.mixture import Block, Order
from pelagos.preprocessing.samples.sample_reader import WaitMeter

if TYPE_CHECKING:
    from pelagos.preprocessing.loading.reading_process import ReadingProcess
    from pelagos.preprocessing.loading.shared_memory import SharedMemory


class LoaderConfig(Config):
    """How batches are read ahead.

    Attributes:
        threads: number of threads that read.
        processes: whether each thread reads in a process of its own, which pays where decoding is the bottleneck: for
            `blosc-lz4` on more than two cores. They take seconds to start, and their memory is not pinned.
        depth: number of batches that are read ahead, each in a buffer of its own.
    """

    threads: PositiveInt = 2
    processes: bool = False
    depth: int = Field(default=4, ge=2)


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
        processes: bool = False,
        depth: int = 4,
        scaled: bool = True,
    ) -> None:
        """Make the memory; reading starts with the iteration.

        Args:
            order: which samples, in which order: a mixture or a sweep.
            rank: rank of this process.
            world: number of processes that train.
            start_step: the first global batch.
            num_steps: number of global batches; by default all that the order has.
            threads: number of threads that read.
            processes: whether each thread reads in a process of its own.
            depth: number of batches that are read ahead, each in a buffer of its own.
            scaled: whether readers normalise, or leave it to the batch's `to`, for a device that does it quicker.

        Raises:
            ConfigError: the order cannot be dealt to so many ranks.
        """
        assert threads >= 1
        assert depth >= 2  # the consumer has one batch while another is filled
        # Fails here rather than with the first batch.
        order.blocks(rank, world, start_step, num_steps)
        self.order = order
        self._range = (rank, world, start_step, num_steps)
        self._scaled = scaled
        self._shape = RingShape.fitting(order.datasets, order.micro_batch, depth)
        self._shared = _shared_memory(self._shape.bytes) if processes else None
        memory = self._shared.values if self._shared else _memory(self._shape.bytes)
        self._slots = self._shape.slots(memory)
        self._present = np.ones(self._shape.targets, bool)
        self._meters = [WaitMeter() for _ in range(threads)]
        self._reading: _ReadAhead | None = None

    def awaited(self) -> str:
        """The dataset of the batch that comes next, for messages; empty while no thread has begun to read it."""
        number = self._reading.awaited() if self._reading else None
        return "" if number is None else f"dataset {self.order.datasets[number].layout.dataset}"

    def __iter__(self) -> Generator[LoadedBatch, None, None]:
        """The batches in order.

        Raises:
            DamagedFileError: a batch cannot be read; raised in its place, after those before it.
        """
        blocks = self.order.blocks(*self._range)
        reading = _ReadAhead(self.order, blocks, self._slots, self._present, scaled=self._scaled)
        self._reading = reading
        readers = [self._reader() for _ in self._meters]
        threads = [
            Thread(target=reading.run, args=pair, daemon=True)
            for pair in zip(readers, self._meters, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            while (batch := reading.wait()) is not None:
                yield batch
                reading.release()
        finally:
            reading.stop()
            for dataset in self.order.datasets:
                dataset.release()
            for thread, reader in zip(threads, readers, strict=True):
                thread.join()
                if reader is not None:
                    reader.close()

    def _reader(self) -> "ReadingProcess | None":
        if self._shared is None:
            return None
        from pelagos.preprocessing.loading.reading_process import ReadingProcess  # see _shared_memory

        return ReadingProcess(self._shared, self._shape, self.order.datasets)


def _shared_memory(size: int) -> "SharedMemory":
    # What processes need is loaded where they are asked for.
    from pelagos.preprocessing.loading.shared_memory import SharedMemory

    return SharedMemory(size)


def _memory(size: int) -> NDArray[np.uint8]:
    return np.asarray(torch.empty(size, dtype=torch.uint8, pin_memory=torch.cuda.is_available()).numpy())


class _Ticket(NamedTuple):
    """A block that is being read, its number, and the memory that it goes to."""

    number: int
    block: Block
    slot: Slot


class _ReadAhead:
    """The state that reading threads and the consumer share during one iteration.

    Blocks are numbered in the order of the batches.
    """

    def __init__(
        self,
        order: Order,
        blocks: Iterator[Block],
        slots: list[Slot],
        present: NDArray[np.bool_],
        *,
        scaled: bool,
    ) -> None:
        self._order, self._blocks, self._present, self._scaled = order, blocks, present, scaled
        self._slots, self._free = slots, list(slots)
        self._filled: dict[int, Slot] = {}  # by the block's number, from when it is there to its release
        # Two conditions, so that no thread is woken in vain, which cost 8 % on small batches.
        self._lock = Lock()
        self._freed, self._ready = Condition(self._lock), Condition(self._lock)
        self._copies = torch.cuda.is_available()  # asking costs too much to do it for every batch
        self._taken = 0  # the next block that a thread will take
        self._current = 0  # the next batch that the consumer will get; those before it are released
        self._begun: dict[int, int] = {}  # dataset of each block that was taken and is not released yet
        self._end: int | None = None  # the number of blocks, once known
        self._stopped = False
        self._failure: BaseException | None = None  # of drawing blocks
        for slot in slots:
            slot.batch, slot.error = None, None

    def run(self, reader: "ReadingProcess | None", meter: WaitMeter) -> None:
        """Take blocks and fill slots, here or in another process, until there are no more."""
        current = self._take(wait=True)
        while current is not None and not self._stopped:
            # The disk fetches it while the current one is read. Where reading does not wait, taking a block early only
            # means more slots than stay in the processor's cache (23.8 instead of 22.9 µs).
            following = self._take(wait=False) if meter.waited and reader is None else None
            if following is not None:
                self._announce(following.block)
            self._fill(current, reader, meter)
            current = following or self._take(wait=True)

    def _take(self, *, wait: bool) -> _Ticket | None:
        """The next block, its number and a slot, once there is one; None at the end, or rather than wait."""
        with self._lock:
            if wait:
                self._freed.wait_for(lambda: self._closed() or self._free)
            if self._closed() or not self._free:
                return None
            try:
                block = next(self._blocks, None)
            except Exception as error:
                block, self._failure = None, error
            if block is None:
                self._end = self._taken
                self._freed.notify_all()
                self._ready.notify()
                return None
            self._begun[self._taken] = block.dataset
            self._taken += 1
            # The slot released last is still in the processor's cache (45 µs a pair instead of 54). With a device,
            # the one released first is taken, since copies from it end first.
            return _Ticket(self._taken - 1, block, self._free.pop(0 if self._copies else -1))

    def _ended(self, number: int) -> bool:
        return self._end is not None and self._end <= number

    def _closed(self) -> bool:
        return self._stopped or self._end is not None

    def _announce(self, block: Block) -> None:
        with suppress(Exception):  # reading meets the same error, and raises it in the batch's place
            dataset = self._order.datasets[block.dataset]
            dataset.announce(dataset.frames_of(block.samples, block.steps))

    def _fill(self, ticket: _Ticket, reader: "ReadingProcess | None", meter: WaitMeter) -> None:
        number, block, slot = ticket
        try:
            slot.batch = self._read(block, slot, reader, meter)
        except Exception as error:
            slot.error = error
        with self._lock:
            self._filled[number] = slot
            if number == self._current:
                self._ready.notify()

    def _read(
        self, block: Block, slot: Slot, reader: "ReadingProcess | None", meter: WaitMeter
    ) -> LoadedBatch:
        if slot.copied is not None:
            slot.copied.synchronize()
        dataset = self._order.datasets[block.dataset]
        buffers = slot.buffers(
            block.dataset, dataset, self._order.micro_batch, self._present, scaled=self._scaled
        )
        frames = dataset.frames_of(block.samples, block.steps, block.key)
        if reader is None:
            with meter:
                dataset.read(frames, buffers, scaled=self._scaled, warm=not meter.waited)
        else:
            reader.fill(self._slots.index(slot), block, scaled=self._scaled)
        return (dataset.wrap if self._scaled else dataset.wrap_unscaled)(frames, buffers)

    def release(self) -> None:
        """Let threads fill the memory of the batch that the consumer had last."""
        with self._lock:
            self._mark_copies()
            self._free.append(self._filled.pop(self._current))
            del self._begun[self._current]
            self._current += 1
            self._freed.notify()

    def awaited(self) -> int | None:
        """The dataset of the next batch, once a thread has taken its block."""
        return self._begun.get(self._current)

    def _mark_copies(self) -> None:
        """Note when the copies to the device end that may still read from the batch."""
        if self._copies and (slot := self._filled.get(self._current)):
            event = torch.cuda.Event()
            event.record()
            slot.copied = event

    def wait(self) -> LoadedBatch | None:
        """The next batch; None at the end."""
        with self._lock:
            number = self._current
            self._ready.wait_for(lambda: number in self._filled or self._ended(number))
            slot = self._filled.get(number)
        if slot is None:
            if self._failure is not None:
                raise self._failure
            return None
        if slot.error is not None:
            raise slot.error
        return slot.batch

    def stop(self) -> None:
        """Let the threads end."""
        with self._lock:
            self._mark_copies()
            self._stopped = True
            self._freed.notify_all()
