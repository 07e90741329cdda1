"""From fields to tokens and back, and between grids of tokens.

The weights of embedding and recovery have one slice for each variable; a call uses the slices it needs.
Names of weights and the order of merged tokens follow Poseidon's scOT (Herde et al., 2024, arXiv:2405.19101).

Shapes: B batch, C channels, H rows and W columns of pixels, h rows and w columns of tokens, D channels of a token,
p side of a patch, K conditions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers.conditioning import OwnConditions, each_norm, layer_norm
from pelagos.models.layers.padding import NOT_PERIODIC, Fill, GridSize, Periodic, convolve, pad
from pelagos.models.layers.precision import Linear, mixed_precision_linear
from pelagos.models.layers.row_layout import WHOLE, RowLayout

Positions = tuple[int, ...] | None
"""The variables whose slices of a weight are used; None: all, in order."""


def select_slices(weight: Tensor, positions: Positions, axis: int) -> Tensor:
    """The slices at these positions along an axis; the weight itself if these are all, in order."""
    if positions is None or positions == tuple(range(weight.shape[axis])):
        return weight
    return torch.cat([weight.narrow(axis, position, 1) for position in positions], axis)


class PatchProjection(nn.Module):
    """The strided convolution that turns each patch, and what it overlaps with, into a token."""

    def __init__(self, num_inputs: int, dim: int, patch: int, overlap: int = 0) -> None:
        super().__init__()
        self.patch, self.overlap = patch, overlap
        self.projection = nn.Conv2d(num_inputs, dim, patch + 2 * overlap, patch)

    def forward(
        self,
        x_BCHW: Tensor,
        inputs: Positions,
        periodic: Periodic = NOT_PERIODIC,
        layout: RowLayout = WHOLE,
    ) -> Tensor:
        """(B, C, H, W) to (B, h, w, D); `layout` of the pixels."""
        weight_DCpp = select_slices(self.projection.weight, inputs, 1)
        if self.overlap:
            margin = (self.overlap, self.overlap)
            x_BCHW = pad(x_BCHW, margin, margin, periodic, "edge", layout=layout)
            stride = self.projection.stride
            return F.conv2d(x_BCHW, weight_DCpp, self.projection.bias, stride).permute(0, 2, 3, 1)
        # Patches do not overlap: the convolution is a matrix product, for which bf16 can pay.
        p = weight_DCpp.shape[-1]
        x_BChpwp = torch.unflatten(torch.unflatten(x_BCHW, 3, (-1, p)), 2, (-1, p))
        patches = x_BChpwp.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return mixed_precision_linear(patches, weight_DCpp.flatten(1), self.projection.bias)


class PatchEmbedding(nn.Module):
    """Normalised tokens of patches, with learned absolute positions if `grid` is given.

    Tokens need no factor for the number of variables in a call, since the normalisation would undo it.
    """

    def __init__(
        self,
        num_inputs: int,
        dim: int,
        patch: int,
        num_conditions: int,
        eps: float,
        grid: GridSize | None = None,
        overlap: int = 0,
    ) -> None:
        super().__init__()
        self.patch_embeddings = PatchProjection(num_inputs, dim, patch, overlap)
        self.norm = layer_norm(dim, num_conditions, eps)
        if grid:
            self.position_embeddings = nn.Parameter(torch.zeros(1, grid[0] * grid[1], dim))
        else:
            self.register_parameter("position_embeddings", None)

    def norms(self) -> tuple[nn.Module, ...]:
        """See `Conditioned`."""
        return (self.norm,)

    def forward(
        self,
        x_BCHW: Tensor,
        conditions: OwnConditions,
        inputs: Positions,
        periodic: Periodic = NOT_PERIODIC,
        layout: RowLayout = WHOLE,
    ) -> Tensor:
        """(B, C, H, W) to (B, h, w, D); `layout` of the pixels."""
        x_BhwD: Tensor = self.norm(
            self.patch_embeddings(x_BCHW, inputs, periodic, layout), *each_norm(conditions, 1)
        )
        if self.position_embeddings is not None:
            positions_hwD = self.position_embeddings.view(-1, *x_BhwD.shape[2:])
            first = layout.own.start // self.patch_embeddings.patch if layout.shared else 0
            x_BhwD = x_BhwD + positions_hwD[first : first + x_BhwD.shape[1]]
        return x_BhwD


class PatchMerging(nn.Module):
    """Two by two tokens become one of twice the channels; odd sizes are padded first."""

    def __init__(self, dim: int, num_conditions: int, eps: float) -> None:
        super().__init__()
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)
        self.norm = layer_norm(2 * dim, num_conditions, eps)

    def norms(self) -> tuple[nn.Module, ...]:
        """See `Conditioned`."""
        return (self.norm,)

    def forward(
        self, x_BhwD: Tensor, conditions: OwnConditions, periodic: Periodic, layout: RowLayout = WHOLE
    ) -> Tensor:
        """(B, h, w, D) to (B, ceil(h/2), ceil(w/2), 2D)."""
        if layout.shared:
            x_BhwD = layout.coarsened(x_BhwD, 1, 2, halved(layout), wraps=periodic[0])
        height, width = x_BhwD.shape[1:3]
        x_BhwD = pad(x_BhwD, (0, height % 2), (0, width % 2), periodic, axes=(1, 2))
        x_Bh2w2D = torch.unflatten(torch.unflatten(x_BhwD, 2, (-1, 2)), 1, (-1, 2))
        # Of the four tokens' places, the row runs fastest.
        merged: Tensor = self.reduction(x_Bh2w2D.permute(0, 1, 3, 4, 2, 5).flatten(3))
        out: Tensor = self.norm(merged, *each_norm(conditions, 1))
        return out


def halved(layout: RowLayout) -> RowLayout:
    """The layout of the tokens that `PatchMerging` makes."""
    return layout.of(-(-layout.starts[-1] // 2)) if layout.shared else layout


class PatchUnmerging(nn.Module):
    """Each token becomes two by two of half the channels, cropped to the grid before merging."""

    def __init__(self, dim: int, num_conditions: int, eps: float) -> None:
        super().__init__()
        self.upsample = Linear(dim, 2 * dim, bias=False)
        self.mixup = Linear(dim // 2, dim // 2, bias=False)
        self.norm = layer_norm(dim // 2, num_conditions, eps)

    def norms(self) -> tuple[nn.Module, ...]:
        """See `Conditioned`."""
        return (self.norm,)

    def forward(
        self,
        x_BhwD: Tensor,
        conditions: OwnConditions,
        grid: GridSize,
        layouts: tuple[RowLayout, RowLayout] = (WHOLE, WHOLE),
    ) -> Tensor:
        """(B, h, w, D) to (B, *grid, D/2); `layouts` of the coarser and the finer tokens."""
        x_Bhw22d = torch.unflatten(self.upsample(x_BhwD), 3, (2, 2, -1))
        x_BhwD = x_Bhw22d.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if layouts[0].shared:
            x_BhwD = layouts[0].scaled(2).moved(x_BhwD, 1, layouts[1])
        out: Tensor = self.mixup(self.norm(x_BhwD[:, : grid[0], : grid[1]], *each_norm(conditions, 1)))
        return out


class PatchRecovery(nn.Module):
    """Tokens become patches of the output fields, smoothed by a 5 x 5 convolution."""

    def __init__(self, dim: int, num_outputs: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.ConvTranspose2d(dim, num_outputs, patch, patch)
        self.mixup = nn.Conv2d(num_outputs, num_outputs, 5, padding=2, bias=False)

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
        weight_DCpp = select_slices(self.projection.weight, outputs, 1)
        # The transposed convolution does not overlap either: a product whose bias is repeated for each pixel.
        assert self.projection.bias is not None
        bias_C = select_slices(self.projection.bias, outputs, 0)
        p = weight_DCpp.shape[-1]
        patches = mixed_precision_linear(x_BhwD, weight_DCpp.flatten(1).t(), bias_C.repeat_interleave(p * p))
        y_BChpwp = torch.unflatten(patches, 3, (-1, p, p)).permute(0, 3, 1, 4, 2, 5)
        y_BCHW = y_BChpwp.flatten(4).flatten(2, 3)[:, :, : size[0], : size[1]]
        weight_CC55 = select_slices(select_slices(self.mixup.weight, outputs, 0), outputs, 1)
        # With few channels the gradient of this convolution takes half the time in channels-last layout.
        y_BCHW = y_BCHW.contiguous(memory_format=torch.channels_last)
        return convolve(self.mixup, y_BCHW, weight_CC55, periodic=periodic, fill=fill, layout=layouts[1])
