"""Blocks of WXFormer and FuXi that halve or double a grid.

Source: NCAR/miles-credit, whose names of weights are kept.

Shapes: B batch, C channels, H rows, W columns; h rows and w columns of the coarser grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', 2h, 2w)."""
        return add_residual(self.conv(x_BChw), self.b)


class ShuffleUpBlock(nn.Module):
    """Doubles the grid by a pixel shuffle, sharpens, then applies two convolutions with a residual."""

    def __init__(self, dim_in: int, dim_out: int, groups: int) -> None:
        super().__init__()
        self.conv = shuffle_convolution(dim_in, dim_out)
        self.sharp = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        nn.init.xavier_uniform_(self.sharp.weight)
        self.b = _two_convolutions(dim_out, groups)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', 2h, 2w)."""
        x_BCHW = F.pixel_shuffle(self.conv(x_BChw), 2)
        return add_residual(add_residual(x_BCHW, self.sharp), self.b)


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
