"""Padding that knows what lies beyond an edge, and convolutions with it.

Shapes: B batch, C channels, H rows, W columns.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers.row_layout import WHOLE, RowLayout

GridSize = tuple[int, int]
"""Rows and columns."""
Periodic = tuple[bool, bool]
"""Whether rows, and columns, wrap around."""
Widths = tuple[int, int]
"""Cells added before and after an axis."""
Fill = Literal["zeros", "edge"]
NOT_PERIODIC = (False, False)


def pad(
    x: Tensor,
    rows: Widths,
    columns: Widths,
    periodic: Periodic = NOT_PERIODIC,
    fill: Fill = "zeros",
    axes: tuple[int, int] = (-2, -1),
    layout: RowLayout = WHOLE,
) -> Tensor:
    """The tensor with rows and columns added before and after.

    Args:
        x: a tensor of any shape.
        rows: how many rows are added before the first and after the last.
        columns: how many columns are added before the first and after the last.
        periodic: which of the two axes wrap around: what is added there comes from the other side.
        fill: what is added on axes that do not wrap: zeros, or copies of the outermost values.
        axes: which axes of the tensor are rows and columns.
        layout: whose rows the tensor has; rows are added before and after those of each process.
    """
    if layout.shared and any(rows):
        x = layout.with_margins(x, axes[0], rows, wraps=periodic[0], edge=fill == "edge")
        rows = (0, 0)
    for axis, widths, wraps in zip(axes, (rows, columns), periodic, strict=True):
        if any(widths):
            x = _wrap(x, axis, *widths) if wraps else _extend(x, axis, *widths, fill)
    return x


def _wrap(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    length = x.shape[axis]
    # Small grids may have to wrap around several times, which F.pad refuses.
    if max(before, after) > length:
        return x.index_select(axis, torch.arange(-before, length + after, device=x.device) % length)
    return torch.cat([x.narrow(axis, length - before, before), x, x.narrow(axis, 0, after)], axis)


def _extend(x: Tensor, axis: int, before: int, after: int, fill: Fill) -> Tensor:
    ends = ((0, before), (x.shape[axis] - 1, after))
    # Zeros and copies by hand: F.pad copies edges on the last axes alone, and only of tensors of 3 to 5 axes.
    first, last = (
        x.narrow(axis, at, 1).expand(*_with_length(x, axis, amount))
        if fill == "edge"
        else x.new_zeros(_with_length(x, axis, amount))
        for at, amount in ends
    )
    return torch.cat([first, x, last], axis)


def _with_length(x: Tensor, axis: int, length: int) -> list[int]:
    shape = list(x.shape)
    shape[axis] = length
    return shape


def margins(size: GridSize, share: float, periodic: Periodic) -> tuple[Widths, Widths]:
    """Rows and columns to be added behind axes that do not wrap, as a share of their length."""
    rows, columns = (
        (0, 0 if wraps else round(share * length)) for length, wraps in zip(size, periodic, strict=True)
    )
    return rows, columns


def convolve(
    conv: nn.Conv2d,
    x_BCHW: Tensor,
    weight: Tensor | None = None,
    *,
    periodic: Periodic,
    fill: Fill,
    layout: RowLayout = WHOLE,
) -> Tensor:
    """(B, C, H, W) to (B, C', H, W): a convolution with an odd kernel, by the layer's weight or the one given."""
    weight = conv.weight if weight is None else weight
    reach = [size // 2 for size in weight.shape[-2:]]
    # Zeros on both axes are the convolution's own padding, which costs no copy.
    if fill == "edge" or any(periodic) or layout.shared:
        rows, columns = ((cells, cells) for cells in reach)
        x_BCHW = pad(x_BCHW, rows, columns, periodic, fill, layout=layout)
        reach = [0, 0]
    return F.conv2d(x_BCHW, weight, conv.bias, padding=reach, groups=conv.groups)
