"""Padding that knows what lies beyond an edge, and convolutions with it.

Legend: B batch, C channels, H rows, W columns.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]
Fill = Literal["zeros", "edge"]
NOWHERE = (False, False)


def pad(
    x: Tensor,
    rows: Pair,
    columns: Pair,
    periodic: tuple[bool, bool] = NOWHERE,
    fill: Fill = "zeros",
    axes: Pair = (-2, -1),
) -> Tensor:
    """The tensor with rows and columns added before and after.

    Args:
        x: any shape.
        rows: how many are added before the first row and after the last.
        columns: likewise.
        periodic: whether rows, and columns, wrap around; then the added ones are copies from the other side.
        fill: what is added on axes that do not wrap: zeros, or copies of the outermost values.
        axes: which of the tensor's are rows and columns.
    """
    for axis, amounts, wraps in zip(axes, (rows, columns), periodic, strict=True):
        if any(amounts):
            x = _wrap(x, axis, *amounts) if wraps else _extend(x, axis, *amounts, fill)
    return x


def _wrap(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    length = x.shape[axis]
    if max(before, after) > length:
        return x.index_select(axis, torch.arange(-before, length + after, device=x.device) % length)
    return torch.cat([x.narrow(axis, length - before, before), x, x.narrow(axis, 0, after)], axis)


def _extend(x: Tensor, axis: int, before: int, after: int, fill: Fill) -> Tensor:
    ends = ((0, before), (x.shape[axis] - 1, after))
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


def margins(size: Pair, share: float, periodic: tuple[bool, bool]) -> tuple[Pair, Pair]:
    """Rows and columns to be added, a share of those there are behind an axis that does not wrap."""
    rows, columns = (
        (0, 0 if wraps else round(share * length)) for length, wraps in zip(size, periodic, strict=True)
    )
    return rows, columns


def convolve(
    conv: nn.Conv2d, x_BCHW: Tensor, weight: Tensor | None = None, *, periodic: tuple[bool, bool], fill: Fill
) -> Tensor:
    """A convolution with an odd kernel that keeps the size, by the layer's weight or one given instead."""
    weight = conv.weight if weight is None else weight
    margins = [size // 2 for size in weight.shape[-2:]]
    if fill == "edge" or any(periodic):
        rows, columns = ((margin, margin) for margin in margins)
        x_BCHW = pad(x_BCHW, rows, columns, periodic, fill)
        margins = [0, 0]
    return F.conv2d(x_BCHW, weight, conv.bias, padding=margins, groups=conv.groups)
