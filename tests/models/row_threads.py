"""Threads that share a sample as processes do: exchanges of rows without the time that processes take to start."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor

from pelagos.models.layers.row_layout import RowLayout

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Board:
    """Where threads leave tensors for each other."""

    barrier: Barrier
    tensors: dict[int, list[Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ThreadGroup:
    """A thread's place among those that share a sample."""

    rank: int
    size: int
    board: _Board

    def exchange(self, sent: Tensor, counts: list[int], received: list[int]) -> Tensor:
        """See RowGroup."""
        found = self._swapped(list(sent.split(counts)))
        own = [parts[self.rank] for parts in found]
        assert [len(part) for part in own] == received
        return torch.cat(own)

    def gather(self, x: Tensor) -> Tensor:
        """See RowGroup."""
        return torch.stack([one for (one,) in self._swapped([x])])

    def total(self, x: Tensor) -> Tensor:
        """See RowGroup."""
        return self.gather(x).sum(0)

    def _swapped(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        self.board.tensors[self.rank] = [tensor.detach().clone() for tensor in tensors]
        self.board.barrier.wait()
        found = [self.board.tensors[rank] for rank in range(self.size)]
        self.board.barrier.wait()
        return found


def together(size: int, work: Callable[[RowLayout], Result]) -> list[Result]:
    """What each of so many threads makes of its (empty) layout; all end when one fails."""
    board = _Board(Barrier(size, timeout=60))

    def run(rank: int) -> Result:
        try:
            return work(RowLayout(ThreadGroup(rank, size, board)))
        except BaseException:
            board.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
    failed = [error for future in futures if (error := future.exception()) is not None]
    if failed:
        # A broken barrier is what the others see of the first failure.
        raise min(failed, key=lambda error: "Barrier" in type(error).__name__)
    return [future.result() for future in futures]
