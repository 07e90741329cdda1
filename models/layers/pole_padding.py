"""Pole padding: the rows beyond a pole of the Earth, which are those of the opposite meridian.

Shapes: B batch, C channels, H rows (latitude), W columns (longitude).
"""

import torch
from torch import Tensor

from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.padding import Widths
from pelagos.preprocessing.errors import DataError


def over_poles(
    x_BCHW: Tensor,
    rows: Widths,
    *,
    on_pole: tuple[bool, bool] = (False, False),
    signs: tuple[int, ...] | None = None,
) -> Tensor:
    """(B, C, H, W) with rows added before the first and after the last, from the other side of the pole.

    Args:
        x_BCHW: fields on a grid that goes round and reaches both poles.
        rows: how many are added before and after.
        on_pole: whether the first, and the last, row lies on the pole itself, which is then not repeated; otherwise the
            pole lies half a row beyond.
        signs: of each channel beyond the pole: -1 for components of vectors, since east and north turn round there.

    Raises:
        DataError: there is no opposite meridian, or fewer rows than are to be added.
    """
    height, width = x_BCHW.shape[-2:]
    # Half a circle must be a whole number of columns.
    if width % 2:
        raise DataError(
            f"padding over the poles needs an even number of columns, found {width}: e.g. {width + 1}"
        )
    needed = max(count + skipped for count, skipped in zip(rows, on_pole, strict=True))
    if needed > height:
        raise DataError(
            f"padding of {rows} rows over the poles needs a grid of at least {needed} rows, found {height}"
        )
    north, south = rows
    first, last = int(on_pole[0]), height - int(on_pole[1])
    strips = (x_BCHW[..., first : first + north, :], x_BCHW[..., last - south : last, :])
    top, bottom = (strip.flip(-2).roll(width // 2, -1) for strip in strips)
    if signs is not None and -1 in signs:
        signs_C11 = constant(signs, x_BCHW.device, x_BCHW.dtype)[:, None, None]
        top, bottom = top * signs_C11, bottom * signs_C11
    return torch.cat([top, x_BCHW, bottom], -2)
