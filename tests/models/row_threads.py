"""Threads that share a sample as processes do: exchanges of rows without the time that processes take to start."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor, nn

from pelagos.models.context import Context
from pelagos.models.layers.row_layout import RowLayout, RowSharing, dealt_rows

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


def assert_network_is_shared(
    network: nn.Module,
    x_BCHW: Tensor,
    context: Context,
    size: int,
    tolerance: float = 1e-10,
    starts: tuple[int, ...] | None = None,
) -> None:
    """Outputs and gradients, of inputs and weights, of threads that share a sample are those of one.

    Args:
        network: to be called; each thread gets a copy.
        x_BCHW: the fields of all rows.
        context: of the whole call.
        size: how many threads.
        tolerance: of the largest difference, relative to the largest value.
        starts: the first row of each thread, and the number of rows; dealt evenly by default.
    """
    assert isinstance(network, RowSharing)
    unit = network.shared_unit((x_BCHW.shape[2], x_BCHW.shape[3]), size)
    lead_B = torch.linspace(0.3, 0.9, len(x_BCHW), dtype=x_BCHW.dtype)

    def gradients(one: nn.Module, x: Tensor, rows: range, context: Context) -> list[Tensor]:
        x = x[:, :, rows.start : rows.stop].clone().requires_grad_()
        y: Tensor = one(x, lead_B, context)
        # Any function of the output would do whose gradients differ from place to place.
        weight = (
            torch.arange(y[0, 0].numel(), dtype=y.dtype).view(y.shape[2:]).add(rows.start * y.shape[3]).cos()
        )
        (y * weight).sum().backward()
        assert x.grad is not None
        return [
            y.detach(),
            x.grad,
            *(torch.zeros_like(p) if p.grad is None else p.grad for p in one.parameters()),
        ]

    def work(layout: RowLayout) -> list[Tensor]:
        dealt = dealt_rows(x_BCHW.shape[2], unit, layout.processes)
        layout = dealt if starts is None else replace(layout, starts=starts)
        return gradients(deepcopy(network), x_BCHW, layout.own, replace(context, rows=layout))

    expected = gradients(deepcopy(network), x_BCHW, range(x_BCHW.shape[2]), context)
    found = together(size, work)
    pairs = [
        *(
            ("output" if n == 0 else "input", torch.cat([f[n] for f in found], 2), expected[n])
            for n in range(2)
        ),
        *(
            (name, torch.stack([f[n] for f in found]).sum(0), expected[n])
            for n, (name, _) in enumerate(network.named_parameters(), start=2)
        ),
    ]
    # Gradients of one kind of weight can be tiny beside others: their rounding is that of the largest.
    largest = max(float(e.abs().max()) for _, _, e in pairs[1:])
    for name, f, e in pairs:
        scale = float(e.abs().max()) if name == "output" else largest
        assert float((f - e).abs().max()) <= tolerance * scale, name
    assert largest > 0
