"""Row exchange: rows of fields move between the processes that share a sample, and their gradients move back.

One exchange serves halos, shifted windows, windows of distant rows and changes of layout: each process says which rows
it wants, in which order. A row that several want has the sum of their gradients.

The objective of a group is the sum over its processes of what each calls its loss: where all have computed the same
loss, gradients are those of the loss times the number of processes, and their mean over processes is exact.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Run = tuple[int, int]
"""Where consecutive rows begin, and how many there are."""
NOWHERE = -1
"""The source of rows that no process holds: they are zero."""


class RowGroup(Protocol):
    """The processes that share a sample; all of them make the same calls."""

    @property
    def rank(self) -> int:
        """This process's number among them."""
        ...

    @property
    def size(self) -> int:
        """How many they are."""
        ...

    def exchange(self, sent: Tensor, counts: list[int], received: list[int]) -> Tensor:
        """Elements (n,) for each process one after the other, so many for each, to those from each process."""
        ...

    def gather(self, x: Tensor) -> Tensor:
        """(*) to (size, *): the tensors of all processes."""
        ...

    def total(self, x: Tensor) -> Tensor:
        """(*) to the sum over processes of the same shape."""
        ...


@dataclass(frozen=True)
class ExchangePlan:
    """What one process sends, receives and puts together.

    Attributes:
        sends: for each process, the runs of own rows that it gets.
        receives: how many rows come from each process.
        pieces: of the result: the process that a run comes from, or `NOWHERE`, and the run in what it gave.
        moves: whether any row moves between any two processes; all processes agree on it.
    """

    sends: tuple[tuple[Run, ...], ...]
    receives: tuple[int, ...]
    pieces: tuple[tuple[int, Run], ...]
    moves: bool


def exchange_plan(held: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]], rank: int) -> ExchangePlan:
    """A process's part of an exchange.

    Args:
        held: the numbers of the rows that each process holds, in their order in its tensor.
        wanted: the numbers that each process is to get, in order; zeros for those that nobody holds.
        rank: the process.
    """
    places = [{row: place for place, row in enumerate(rows)} for rows in held]
    owner = {row: process for process in reversed(range(len(held))) for row in held[process]}
    # needed[d][s]: the rows that d gets from s, each once, in the order in which it wants them.
    needed: list[list[dict[int, int]]] = [[{} for _ in held] for _ in held]
    for process, rows in enumerate(wanted):
        for row in rows:
            if row not in places[process] and row in owner:
                found = needed[process][owner[row]]
                found.setdefault(row, len(found))
    pieces = [_origin(row, rank, places[rank], owner, needed[rank]) for row in wanted[rank]]
    return ExchangePlan(
        sends=tuple(tuple(_runs(places[rank][row] for row in each[rank])) for each in needed),
        receives=tuple(len(rows) for rows in needed[rank]),
        pieces=tuple(_pieces(pieces)),
        moves=any(rows for each in needed for rows in each),
    )


def _origin(
    row: int, rank: int, own: dict[int, int], owner: dict[int, int], needed: list[dict[int, int]]
) -> tuple[int, int]:
    if row in own:
        return rank, own[row]
    return (owner[row], needed[owner[row]][row]) if row in owner else (NOWHERE, 0)


def _runs(places: Iterable[int]) -> Iterator[Run]:
    return (run for _, run in _pieces((0, place) for place in places))


def _pieces(origins: Iterable[tuple[int, int]]) -> list[tuple[int, Run]]:
    found: list[tuple[int, Run]] = []
    for source, place in origins:
        if found and found[-1][0] == source:
            start, length = found[-1][1]
            if source == NOWHERE or start + length == place:
                found[-1] = (source, (start, length + 1))
                continue
        found.append((source, (place, 1)))
    return found


def exchange(x: Tensor, axis: int, plan: ExchangePlan, group: RowGroup) -> Tensor:
    """A tensor with this process's rows along an axis to one with those that it wants; all processes call it."""
    axis %= x.dim()
    if not plan.moves and plan.pieces == ((group.rank, (0, x.shape[axis])),):
        return x
    out: Tensor = _Exchange.apply(x, axis, plan, group)
    return out


class _Exchange(torch.autograd.Function):
    """Sends, receives and joins in one function: its gradient is asked for on all processes, or on none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, plan: ExchangePlan, group: RowGroup) -> Tensor:
        ctx.axis, ctx.plan, ctx.group, ctx.length = axis, plan, group, x.shape[axis]
        blocks = _received(x, axis, plan, group) if plan.moves else {}
        blocks[group.rank] = x
        return torch.cat(
            [
                _zeros(x, axis, length) if source == NOWHERE else blocks[source].narrow(axis, start, length)
                for source, (start, length) in plan.pieces
            ],
            axis,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        axis, plan, group = ctx.axis, ctx.plan, ctx.group
        own = _zeros(grad, axis, ctx.length)
        returned = _zeros(grad, axis, sum(plan.receives)).flatten()
        blocks = _blocks(returned, grad, axis, plan.receives)
        blocks[group.rank] = own
        place = 0
        for source, (start, length) in plan.pieces:
            if source != NOWHERE:
                blocks[source].narrow(axis, start, length).add_(grad.narrow(axis, place, length))
            place += length
        if plan.moves:
            _add_returned(own, returned, axis, plan, group)
        return own, None, None, None


def _received(x: Tensor, axis: int, plan: ExchangePlan, group: RowGroup) -> dict[int, Tensor]:
    """What each process gave."""
    sent_rows = _sent_rows(plan)
    sent = _empty(x, axis, sum(sent_rows)).flatten()
    for process, block in _blocks(sent, x, axis, sent_rows).items():
        place = 0
        for start, length in plan.sends[process]:
            block.narrow(axis, place, length).copy_(x.narrow(axis, start, length))
            place += length
    row = _row_elements(x, axis)
    flat = group.exchange(sent, [row * n for n in sent_rows], [row * n for n in plan.receives])
    return _blocks(flat, x, axis, plan.receives)


def _add_returned(own: Tensor, returned: Tensor, axis: int, plan: ExchangePlan, group: RowGroup) -> None:
    """Give back the gradients of rows that came from others, and add those of rows that they got."""
    row, sent_rows = _row_elements(own, axis), _sent_rows(plan)
    flat = group.exchange(returned, [row * n for n in plan.receives], [row * n for n in sent_rows])
    for process, block in _blocks(flat, own, axis, sent_rows).items():
        place = 0
        for start, length in plan.sends[process]:
            own.narrow(axis, start, length).add_(block.narrow(axis, place, length))
            place += length


def _sent_rows(plan: ExchangePlan) -> list[int]:
    return [sum(length for _, length in runs) for runs in plan.sends]


def _blocks(flat: Tensor, like: Tensor, axis: int, rows: Sequence[int]) -> dict[int, Tensor]:
    """Views of a flat tensor as tensors with so many rows of each process."""
    row, start, blocks = _row_elements(like, axis), 0, {}
    for process, number in enumerate(rows):
        blocks[process] = flat[start : start + row * number].view(_shape(like, axis, number))
        start += row * number
    return blocks


def _row_elements(x: Tensor, axis: int) -> int:
    return x.numel() // x.shape[axis]


def _shape(x: Tensor, axis: int, rows: int) -> list[int]:
    return [*x.shape[:axis], rows, *x.shape[axis + 1 :]]


def _zeros(x: Tensor, axis: int, rows: int) -> Tensor:
    return x.new_zeros(_shape(x, axis, rows))


def _empty(x: Tensor, axis: int, rows: int) -> Tensor:
    return x.new_empty(_shape(x, axis, rows))


def gathered(x: Tensor, group: RowGroup) -> Tensor:
    """(*) to (size, *): the tensors of all processes, with gradients to each."""
    out: Tensor = _Gathered.apply(x, group)
    return out


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: RowGroup) -> Tensor:
        ctx.group = group
        return group.gather(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.group.total(grad)[ctx.group.rank], None
