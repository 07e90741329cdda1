"""From tokens to fields by interpolation and one 5 x 5 convolution, whose output has no seams between patches.

A transposed convolution puts energy at the wave numbers of the patches, as zeros between values do: Durall et al. 2020,
arXiv:2003.01826; Chandrasegaran et al. 2021, arXiv:2103.17195, whose N.1.5 and B.1.5 are `nearest` and `bilinear`.

Shapes: B batch, C channels, H rows and W columns of pixels, h rows and w columns of tokens, D channels of a token,
p side of a patch, k side of a kernel.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers.padding import Fill, GridSize, Periodic, pad
from pelagos.models.layers.row_layout import WHOLE, RowLayout
from pelagos.models.networks.scot.patches import Positions, select_slices

Interpolation = Literal["nearest", "bilinear"]
Upsampling = Literal["transposed", "pixel_shuffle", Interpolation]
_MARGIN = 2  # tokens: an output depends on no others further away


class InterpolatedRecovery(nn.Module):
    """Tokens are interpolated to pixels, and a 5 x 5 convolution makes the output fields of them.

    Both steps are linear, so they are done as one: a transposed convolution whose overlapping kernels are the
    convolution of the two. That costs a sixteenth of the convolution over interpolated tokens with patches of 4.
    """

    interpolation: Tensor

    def __init__(self, dim: int, num_outputs: int, patch: int, interpolation: Interpolation) -> None:
        super().__init__()
        self.patch = patch
        self.projection = nn.Conv2d(dim, num_outputs, 5)
        weights = _interpolation(patch, interpolation)
        self.register_buffer("interpolation", torch.outer(weights, weights), persistent=False)

    def forward(
        self,
        x_BhwD: Tensor,
        size: GridSize,
        outputs: Positions,
        periodic: Periodic,
        fill: Fill,
        layouts: tuple[RowLayout, RowLayout] = (WHOLE, WHOLE),
    ) -> Tensor:
        """(B, h, w, D) to (B, C, *size); `layouts` of tokens and pixels."""
        weight_CD55 = select_slices(self.projection.weight, outputs, 0)
        assert self.projection.bias is not None
        bias_C = select_slices(self.projection.bias, outputs, 0)
        margin = (_MARGIN, _MARGIN)
        tokens_BDhw = pad(x_BhwD.permute(0, 3, 1, 2), margin, margin, periodic, fill, layout=layouts[0])
        kernel_DCkk = self._kernel(weight_CD55).to(tokens_BDhw.dtype)
        y_BCHW = F.conv_transpose2d(tokens_BDhw, kernel_DCkk, bias_C, stride=self.patch)
        # What the margins make, and how far a kernel reaches ahead of its token.
        start = _MARGIN * self.patch + (kernel_DCkk.shape[-1] - self.patch) // 2
        return y_BCHW[:, :, start : start + size[0], start : start + size[1]]

    def _kernel(self, weight_CD55: Tensor) -> Tensor:
        """(D, C, k, k) what one token adds to the outputs around it."""
        num_outputs, dim = weight_CD55.shape[:2]
        # Flipped, since convolutions of networks are correlations.
        flipped = weight_CD55.flip(-1, -2).reshape(num_outputs * dim, 1, 5, 5)
        reach = self.interpolation.shape[-1] - 1
        spread = F.conv2d(flipped, self.interpolation.to(flipped.dtype)[None, None], padding=reach)
        kernel_DCkk: Tensor = torch.unflatten(spread.squeeze(1), 0, (num_outputs, dim)).transpose(0, 1)
        return kernel_DCkk


def _interpolation(patch: int, kind: Interpolation) -> Tensor:
    """What a token weighs in the pixels around its centre, along one axis."""
    if kind == "nearest":
        return torch.ones(patch)
    distance = torch.arange(2 * patch) - (patch - 0.5)
    return 1 - distance.abs() / patch


def icnr_(weight_DCpp: Tensor, deviation: float) -> None:
    """Draw a transposed convolution's weights so that each patch begins constant.

    Source: Aitken et al. 2017, arXiv:1707.02937: a sub-pixel convolution that begins as an interpolation by nearest
    neighbours has no checkerboard of its own.
    """
    with torch.no_grad():
        weight_DCpp.copy_(torch.randn_like(weight_DCpp[:, :, :1, :1]).mul_(deviation).expand_as(weight_DCpp))
