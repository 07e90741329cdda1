"""Row interpolation: bilinear interpolation of fields whose rows several processes share.

Shapes: B batch, C channels, h own rows before and H after, w and W columns.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.row_exchange import ExchangePlan, exchange, exchange_plan
from pelagos.models.layers.row_layout import RowLayout


def interpolated(x_BChw: Tensor, layout: RowLayout, to: RowLayout, width: int) -> Tensor:
    """(B, C, h, w) to (B, C, H, W), as `interpolate(..., mode="bilinear", align_corners=False)` of all rows does."""
    rows, new_rows = layout.starts[-1], to.starts[-1]
    places = [_place(row, rows, new_rows) for row in to.own]
    first = int(places[0])
    x_BChw = exchange(x_BChw, -2, _plan(layout, to), layout.processes)
    below = tuple(int(place) - first for place in places)
    above = tuple(min(int(place) + 1, rows - 1) - first for place in places)
    shares = torch.tensor([place % 1 for place in places], dtype=x_BChw.dtype)
    low, high = (x_BChw.index_select(-2, constant(index, x_BChw.device)) for index in (below, above))
    y_BCHw = torch.lerp(low, high, shares.to(x_BChw.device)[:, None])
    return F.interpolate(y_BCHw, (len(places), width), mode="bilinear", align_corners=False)


def _place(row: int, rows: int, new_rows: int) -> float:
    """Where a new row lies among the old ones; none lies before the first."""
    return max(0.0, (row + 0.5) * rows / new_rows - 0.5)


@lru_cache(64)
def _plan(layout: RowLayout, to: RowLayout) -> ExchangePlan:
    rows, new_rows = layout.starts[-1], to.starts[-1]
    ends = [[_place(row, rows, new_rows) for row in (own.start, own.stop - 1)] for own in to.held]
    wanted = [range(int(first), min(int(last) + 1, rows - 1) + 1) for first, last in ends]
    return exchange_plan(layout.held, wanted, layout.processes.rank)
