"""Row layout: how the rows of fields, or of tokens, are dealt to the processes that share a sample.

Networks ask the layout for what lies beyond a process's own rows. `WHOLE`, the layout of one process, changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.row_exchange import ExchangePlan, RowGroup, exchange, exchange_plan, gathered


@dataclass(frozen=True)
class RowLayout:
    """Which rows of a grid each process has: consecutive ones, in the order of ranks, at least one.

    Attributes:
        group: the processes; None where one has all rows.
        starts: the first row of each process, and the number of rows.
    """

    group: RowGroup | None = None
    starts: tuple[int, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether several processes share a sample."""
        return self.group is not None

    @property
    def processes(self) -> RowGroup:
        """The processes of a shared sample."""
        assert self.group is not None, "one process has all rows"
        return self.group

    @property
    def own(self) -> range:
        """This process's rows."""
        rank = self.processes.rank
        return range(self.starts[rank], self.starts[rank + 1])

    @property
    def held(self) -> tuple[range, ...]:
        """The rows of each process."""
        return tuple(range(*pair) for pair in pairwise(self.starts))

    def count(self, rows: int) -> int:
        """The rows of the whole grid, of which this process has so many."""
        if not self.shared:
            return rows
        assert rows == len(self.own), f"{rows} rows, but the layout gives this process {self.own}"
        return self.starts[-1]

    def of(self, rows: int) -> "RowLayout":
        """The layout that deals so many rows evenly to the same processes."""
        if not self.shared:
            return self
        parts = self.processes.size
        assert rows >= parts, f"{rows} rows cannot be dealt to {parts} processes"
        return RowLayout(self.group, tuple(part * rows // parts for part in range(parts + 1)))

    def scaled(self, factor: int, rows: int | None = None) -> "RowLayout":
        """The layout after each row became several, of which the first `rows` are kept."""
        if not self.shared:
            return self
        starts = (factor * start for start in self.starts)
        return RowLayout(self.group, tuple(start if rows is None else min(start, rows) for start in starts))

    def with_margins(
        self, x: Tensor, axis: int, widths: tuple[int, int], *, wraps: bool, edge: bool
    ) -> Tensor:
        """A process's rows with those before and after them.

        Beyond the grid they come from the other side if the axis wraps; otherwise they are copies of the outermost row
        if `edge`, else zeros.
        """
        return exchange(x, axis, _margins(self, *widths, wraps, edge), self.processes)

    def moved(self, x: Tensor, axis: int, to: "RowLayout", offset: int = 0) -> Tensor:
        """The rows that another layout gives this process, whose row 0 is this one's row `offset`."""
        if not self.shared:
            return x
        return exchange(x, axis, _move(self, to, offset), self.processes)

    def coarsened(self, x: Tensor, axis: int, factor: int, to: "RowLayout", *, wraps: bool = False) -> Tensor:
        """So many rows for each row of another layout; those missing at the end are zeros, or the first if it wraps."""
        return self.strided(x, axis, to, (factor, 0, factor), wraps=wraps)

    def strided(
        self, x: Tensor, axis: int, to: "RowLayout", stride: tuple[int, int, int], *, wraps: bool = False
    ) -> Tensor:
        """What this process's rows of another layout are computed from.

        Args:
            x: this process's rows.
            axis: that of the rows.
            to: the layout of what is computed.
            stride: row n is computed from rows n * step - before, ..., n * step - before + length - 1, given as (step,
                before, length).
            wraps: whether the axis is periodic; otherwise there are zeros beyond its ends.
        """
        return exchange(x, axis, _strided(self, to, *stride, wraps), self.processes)

    def stacked(self, x: Tensor) -> Tensor:
        """(*) to (k, *): the tensors of all processes; k = 1 where one has all rows."""
        return gathered(x, self.group) if self.group is not None else x[None]

    def total(self, x: Tensor) -> Tensor:
        """The sum over processes of sums over own rows."""
        return self.stacked(x).sum(0) if self.shared else x

    def average(self, x: Tensor) -> Tensor:
        """The mean over all rows, of means over own rows."""
        if not self.shared:
            return x
        return self._average(self.stacked(x))

    def norm(self, x: Tensor, p: int) -> Tensor:
        """The p-norm over all rows, of p-norms over own rows."""
        if not self.shared:
            return x
        whole: Tensor = torch.linalg.vector_norm(self.stacked(x), p, dim=0)
        return whole

    def group_norm(self, norm: nn.GroupNorm, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape: a group normalisation with the statistics of all rows."""
        if not self.shared:
            normalised: Tensor = norm(x_BCHW)
            return normalised
        # As under autocast: sums of squares have no room in bf16.
        x_BCHW = x_BCHW.to(torch.promote_types(x_BCHW.dtype, torch.float32))
        variance_BG, mean_BG = torch.var_mean(
            torch.unflatten(x_BCHW, 1, (norm.num_groups, -1)), (2, 3, 4), correction=0
        )
        means_kBG, variances_kBG = self.stacked(torch.stack([mean_BG, variance_BG])).unbind(1)
        mean_BG = self._average(means_kBG)
        # Chan et al. 1983: without the cancellation of a mean of squares less a square of means.
        variance_BG = self._average(variances_kBG + (means_kBG - mean_BG).square())
        scale_BG = torch.rsqrt(variance_BG + norm.eps)
        y_BGcHW = torch.unflatten(x_BCHW, 1, (norm.num_groups, -1)) - mean_BG[..., None, None, None]
        y_BCHW = (y_BGcHW * scale_BG[..., None, None, None]).flatten(1, 2)
        return y_BCHW * norm.weight[:, None, None] + norm.bias[:, None, None]

    def _average(self, stacked: Tensor) -> Tensor:
        """(k, *) means over each process's rows to (*) the mean over all."""
        rows = constant(tuple(len(rows) for rows in self.held), stacked.device, stacked.dtype)
        # No product of matrices, which autocast would do in bf16.
        return (stacked * (rows / self.starts[-1]).view(-1, *[1] * (stacked.dim() - 1))).sum(0)


@runtime_checkable
class RowSharing(Protocol):
    """A network that several processes can compute together, each some of the rows (`Context.rows`)."""

    def shared_unit(self, size: tuple[int, int], processes: int) -> int:
        """How many rows are best dealt together, of a grid of this size.

        Raises:
            ConfigError: these processes cannot share such a grid.
        """
        ...


WHOLE = RowLayout()
"""One process has all rows."""


def dealt_rows(rows: int, unit: int, group: RowGroup) -> RowLayout:
    """The layout that deals whole units of rows, of which the last may be shorter, evenly."""
    units = -(-rows // unit)
    return RowLayout(group).of(units).scaled(unit, rows)


@dataclass(frozen=True)
class Regrouping:
    """Rows that are computed together, in groups, and how they come to be together and back again.

    Attributes:
        mine: the groups that this process computes.
        there: brings their rows together.
        back: brings each process its own rows of the results.
        group: the processes.
    """

    mine: tuple[int, ...]
    there: ExchangePlan
    back: ExchangePlan
    group: RowGroup

    def bring(self, x: Tensor, axis: int) -> Tensor:
        """Own rows to those of the groups."""
        return exchange(x, axis, self.there, self.group)

    def take_back(self, x: Tensor, axis: int) -> Tensor:
        """What was computed of the groups' rows to own rows."""
        return exchange(x, axis, self.back, self.group)


def regrouped(
    layout: RowLayout, members: Sequence[Sequence[int]], homes: Sequence[int], *, by_place: bool = False
) -> Regrouping:
    """Deal groups of rows to the processes.

    Where there are fewer groups than processes, each process computes those that its own rows are in, some of them as
    others do: each still contributes its own rows alone, so that gradients need no correction.

    Args:
        layout: of the rows.
        members: the rows of each group, as many in each; zeros stand for those that nobody has.
        homes: for each row its place in the groups, counted through all of them.
        by_place: whether a process's rows are in the order of their places in groups, then of groups; otherwise the
            other way round.
    """
    group, size, number = layout.processes, len(members[0]), len(members)
    if number >= group.size:
        mine = [list(groups) for groups in RowLayout(group).of(number).held]
    else:
        mine = [sorted({homes[row] // size for row in rows}) for rows in layout.held]
    ordered = [
        [(one, place) for place in range(size) for one in groups]
        if by_place
        else [(one, place) for one in groups for place in range(size)]
        for groups in mine
    ]
    wanted = [[members[one][place] for one, place in places] for places in ordered]
    results = [[one * size + place for one, place in places] for places in ordered]
    there = exchange_plan(layout.held, wanted, group.rank)
    back = exchange_plan(results, [[homes[row] for row in rows] for rows in layout.held], group.rank)
    return Regrouping(tuple(mine[group.rank]), there, back, group)


# Plans are made by Python's loops over rows: kept, since a network asks for the same ones at each call.
_kept = lru_cache(4096)


@_kept
def _margins(layout: RowLayout, before: int, after: int, wraps: bool, edge: bool) -> ExchangePlan:
    rows = layout.starts[-1]
    wanted = [
        [_beyond(row, rows, wraps, edge) for row in range(own.start - before, own.stop + after)]
        for own in layout.held
    ]
    return exchange_plan(layout.held, wanted, layout.processes.rank)


def _beyond(row: int, rows: int, wraps: bool, edge: bool) -> int:
    """The row that stands for one which may lie beyond the grid; that itself, which nobody has, for zeros."""
    if wraps:
        return row % rows
    return min(max(row, 0), rows - 1) if edge else row


@_kept
def _move(layout: RowLayout, to: RowLayout, offset: int) -> ExchangePlan:
    wanted = [range(own.start + offset, own.stop + offset) for own in to.held]
    return exchange_plan(layout.held, wanted, layout.processes.rank)


@_kept
def _strided(
    layout: RowLayout, to: RowLayout, step: int, before: int, length: int, wraps: bool
) -> ExchangePlan:
    rows = layout.starts[-1]
    wanted = [
        [
            _beyond(row, rows, wraps, False)
            for row in range(own.start * step - before, (own.stop - 1) * step - before + length)
        ]
        for own in to.held
    ]
    return exchange_plan(layout.held, wanted, layout.processes.rank)
