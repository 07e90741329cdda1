"""Row padding: rows beyond the first and the last, where several processes share the rows of a field.

Shapes: B batch, C channels, H own rows before, N own rows after padding, W columns.
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from pelagos.models.layers.padding import Widths
from pelagos.models.layers.pole_padding import check_poles, on_opposite_meridian
from pelagos.models.layers.row_exchange import ExchangePlan, exchange, exchange_plan
from pelagos.models.layers.row_layout import RowLayout

Beyond = Literal["zeros", "edge", "wrap", "mirror", "poles"]
"""What lies beyond the outermost rows: zeros, copies of them, the other side, or a reflection, over a pole or not."""


def padded_rows(
    x_BCHW: Tensor,
    layout: RowLayout,
    to: RowLayout,
    rows: Widths,
    beyond: Beyond,
    *,
    on_pole: tuple[bool, bool] = (False, False),
    signs: tuple[int, ...] | None = None,
) -> Tensor:
    """(B, C, H, W) to (B, C, N, W): this process's rows of the padded field, in the layout `to`.

    Args:
        x_BCHW: this process's rows.
        layout: of these.
        to: the layout of the padded field.
        rows: how many are added before and after.
        beyond: what they hold.
        on_pole: as of `over_poles`.
        signs: as of `over_poles`.

    Raises:
        DataError: see `over_poles`.
    """
    height = layout.starts[-1]
    if beyond == "poles":
        check_poles((height, x_BCHW.shape[-1]), rows, on_pole)
    padded_BCNW = exchange(x_BCHW, -2, _plan(layout, to, rows[0], beyond, on_pole), layout.processes)
    if beyond != "poles":
        return padded_BCNW
    own = to.own
    top = len(range(own.start, min(own.stop, rows[0])))
    bottom = len(range(max(own.start, rows[0] + height), own.stop))
    parts = padded_BCNW.split([top, len(own) - top - bottom, bottom], -2)
    return torch.cat(
        [on_opposite_meridian(parts[0], signs), parts[1], on_opposite_meridian(parts[2], signs)], -2
    )


@lru_cache(256)
def _plan(
    layout: RowLayout, to: RowLayout, before: int, beyond: Beyond, on_pole: tuple[bool, bool]
) -> ExchangePlan:
    height = layout.starts[-1]
    wanted = [[_source(row - before, height, beyond, on_pole) for row in rows] for rows in to.held]
    return exchange_plan(layout.held, wanted, layout.processes.rank)


def _source(row: int, height: int, beyond: Beyond, on_pole: tuple[bool, bool]) -> int:
    """The row that one beyond the grid is taken from; itself, which nobody has, for zeros."""
    if 0 <= row < height or beyond == "zeros":
        return row
    if beyond == "wrap":
        return row % height
    if beyond == "edge":
        return min(max(row, 0), height - 1)
    # A mirror is the outermost row itself; a pole lies half a row beyond it, unless it is on the row.
    skipped = (1, 1) if beyond == "mirror" else tuple(map(int, on_pole))
    return skipped[0] - 1 - row if row < 0 else 2 * height - 1 - skipped[1] - row
