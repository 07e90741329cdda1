"""Blocks of WXFormer and FuXi that halve or double a grid.

Source: NCAR/miles-credit, whose names of weights are kept.

Shapes: B batch, C channels, H rows, W columns; h rows and w columns of the coarser grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers.padding import NOT_PERIODIC, convolve
from pelagos.models.layers.row_layout import WHOLE, RowLayout


def _two_convolutions(channels: int, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1))
        # The statistics of one sample: small batches of large fields leave too few for batch normalisation.
        layers += [nn.GroupNorm(groups, channels), nn.SiLU()]
    return nn.Sequential(*layers)


def add_residual(x: Tensor, layer: nn.Module) -> Tensor:
    """X + layer(x)."""
    out: Tensor = x + layer(x)
    return out


def _convolved(conv: nn.Conv2d, x_BCHW: Tensor, layout: RowLayout) -> Tensor:
    """(B, C, H, W) to (B, C', H, W) by a convolution that adds zeros."""
    if layout.shared:
        return convolve(conv, x_BCHW, periodic=NOT_PERIODIC, fill="zeros", layout=layout)
    out: Tensor = conv(x_BCHW)
    return out


def _with_two_convolutions(x_BCHW: Tensor, layers: nn.Module, layout: RowLayout) -> Tensor:
    """X + layers(x), for what `_two_convolutions` makes."""
    if not layout.shared:
        return add_residual(x_BCHW, layers)
    y_BCHW = x_BCHW
    for layer in layers.children():
        if isinstance(layer, nn.Conv2d):
            y_BCHW = _convolved(layer, y_BCHW, layout)
        elif isinstance(layer, nn.GroupNorm):
            y_BCHW = layout.group_norm(layer, y_BCHW)
        else:
            y_BCHW = layer(y_BCHW)
    return x_BCHW + y_BCHW


class DownBlock(nn.Module):
    """Halves the grid by a strided convolution, then applies two convolutions with a residual."""

    def __init__(self, dim_in: int, dim_out: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, 3, stride=2, padding=1)
        self.b = _two_convolutions(dim_out, groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H/2), ceil(W/2))."""
        return add_residual(self.conv(x_BCHW), self.b)


class TransposedUpBlock(nn.Module):
    """Doubles the grid by a transposed convolution, then applies two convolutions with a residual."""

    def __init__(self, dim_in: int, dim_out: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(dim_in, dim_out, 2, stride=2)
        self.b = _two_convolutions(dim_out, groups)

    def forward(self, x_BChw: Tensor, layout: RowLayout = WHOLE, finer: RowLayout = WHOLE) -> Tensor:
        """(B, C, h, w) to (B, C', 2h, 2w); `layout` and `finer` of the rows before and after."""
        x_BCHW = layout.scaled(2).moved(self.conv(x_BChw), -2, finer)
        return _with_two_convolutions(x_BCHW, self.b, finer)


class ShuffleUpBlock(nn.Module):
    """Doubles the grid by a pixel shuffle, sharpens, then applies two convolutions with a residual."""

    def __init__(self, dim_in: int, dim_out: int, groups: int) -> None:
        super().__init__()
        self.conv = shuffle_convolution(dim_in, dim_out)
        self.sharp = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        nn.init.xavier_uniform_(self.sharp.weight)
        self.b = _two_convolutions(dim_out, groups)

    def forward(self, x_BChw: Tensor, layout: RowLayout = WHOLE, finer: RowLayout = WHOLE) -> Tensor:
        """(B, C, h, w) to (B, C', 2h, 2w); `layout` and `finer` of the rows before and after."""
        x_BCHW = F.pixel_shuffle(_convolved(self.conv, x_BChw, layout), 2)
        x_BCHW = layout.scaled(2).moved(x_BCHW, -2, finer)
        x_BCHW = x_BCHW + _convolved(self.sharp, x_BCHW, finer)
        return _with_two_convolutions(x_BCHW, self.b, finer)


def last_doubling(block: nn.Module, x_BChw: Tensor, layout: RowLayout, finer: RowLayout) -> Tensor:
    """(B, C, h, w) to (B, C', 2h, 2w): the decoder's last step, of either kind."""
    if not layout.shared:
        out: Tensor = block(x_BChw)
        return out
    if isinstance(block, nn.ConvTranspose2d):
        # A row of the input reaches two rows to each side; what the added rows make is cut off again.
        rows = layout.with_margins(x_BChw, -2, (1, 1), wraps=False, edge=False)
        doubled = block(rows)[..., 2:-2, :]
        return layout.scaled(2).moved(doubled, -2, finer)
    first, shuffle, last = block.children()
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    x_BCHW = layout.scaled(2).moved(shuffle(_convolved(first, x_BChw, layout)), -2, finer)
    return _convolved(last, x_BCHW, finer)


def shuffle_convolution(dim_in: int, dim_out: int) -> nn.Conv2d:
    """The convolution before a pixel shuffle by 2; its bias starts at 0, its four sub-grids start equal.

    Equal sub-grids avoid a checkerboard at the start (Aitken et al., 2017, arXiv:1707.02937).
    """
    conv = nn.Conv2d(dim_in, 4 * dim_out, 3, padding=1)
    # The four channels that a pixel shuffle puts into one cell are neighbours.
    kernel = torch.empty_like(conv.weight[::4])
    nn.init.kaiming_normal_(kernel)
    with torch.no_grad():
        conv.weight.copy_(kernel.repeat_interleave(4, 0))
        assert conv.bias is not None
        conv.bias.zero_()
    return conv
