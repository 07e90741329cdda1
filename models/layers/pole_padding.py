"""Pole padding: the rows beyond a pole of the Earth, which are those of the opposite meridian.

Shapes: B batch, C channels, H rows (latitude), W columns (longitude).
"""

import torch
from torch import Tensor

from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.padding import GridSize, Widths
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
    check_poles((height, width), rows, on_pole)
    north, south = rows
    first, last = int(on_pole[0]), height - int(on_pole[1])
    strips = (x_BCHW[..., first : first + north, :], x_BCHW[..., last - south : last, :])
    top, bottom = (on_opposite_meridian(strip.flip(-2), signs) for strip in strips)
    return torch.cat([top, x_BCHW, bottom], -2)


def on_opposite_meridian(x_BCHW: Tensor, signs: tuple[int, ...] | None) -> Tensor:
    """(B, C, H, W) rows as they are seen from beyond the pole; see `over_poles`."""
    turned = x_BCHW.roll(x_BCHW.shape[-1] // 2, -1)
    if signs is None or -1 not in signs:
        return turned
    return turned * constant(signs, x_BCHW.device, x_BCHW.dtype)[:, None, None]


def check_poles(size: GridSize, rows: Widths, on_pole: tuple[bool, bool]) -> None:
    """Check that a grid has what `over_poles` takes from it.

    Raises:
        DataError: it has not.
    """
    height, width = size
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
