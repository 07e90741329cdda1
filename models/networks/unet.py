"""A U-shaped network of ConvNeXt blocks, conditioned on lead time and scalars.

Sources: Ronneberger et al., U-Net, MICCAI 2015 (arXiv:1505.04597); Liu et al., A ConvNet for the 2020s,
CVPR 2022 (arXiv:2201.03545). The blocks are normalised as scOT's are.

Shapes: B batch, C channels, H rows, W columns, h and w rows and columns of a coarser grid, K conditions.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.channel_fields import ChannelFields
from pelagos.models.context import ALL_VARIABLES, Context, Signature
from pelagos.models.layers.conditioning import (
    conditional_axes,
    conditional_norm,
    encode_conditions,
)
from pelagos.models.layers.named_axis import Axes
from pelagos.models.layers.network_layers import LayerNames
from pelagos.models.layers.padding import Periodic, convolve, pad
from pelagos.preprocessing.config import Config


class UNetConfig(Config):
    """Settings of a `UNet`.

    Attributes:
        dims: channels on each grid, from the finest; each next grid has half the rows and columns.
        depth: number of blocks on each grid, on the way down and again on the way up.
        kernel: cells along a side of a block's convolution, an odd number.
        expansion: hidden channels of a block, in units of its channels.
        residual: whether the network predicts the change of variables that are also input, which grows with the
            lead time as `lead_time_factor` does.
        checkpointing: whether blocks are recomputed in the backward pass instead of stored.
    """

    kind: Literal["unet"] = "unet"
    dims: tuple[int, ...] = Field((48, 96, 192, 384), min_length=1)
    depth: int = Field(2, gt=0)
    kernel: Literal[3, 5, 7, 9] = 7
    expansion: int = Field(4, gt=0)
    residual: bool = True
    checkpointing: bool = False

    def build(self, signature: Signature) -> "UNet":
        """The network for these variables."""
        return UNet(
            signature,
            dims=self.dims,
            depth=self.depth,
            kernel=self.kernel,
            expansion=self.expansion,
            residual=self.residual,
            checkpointing=self.checkpointing,
        )


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, a normalisation and a pointwise MLP, added to the input."""

    def __init__(self, dim: int, kernel: int, expansion: int, num_conditions: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, kernel, groups=dim)
        self.norm = conditional_norm(dim, num_conditions)
        self.widen = nn.Linear(dim, expansion * dim)
        self.narrow = nn.Linear(expansion * dim, dim)

    def forward(self, x_BCHW: Tensor, conditions_BK: Tensor, periodic: Periodic) -> Tensor:
        """(B, C, H, W) to the same shape; beyond axes that are not periodic the convolution sees zeros."""
        y_BCHW = convolve(self.depthwise, x_BCHW, periodic=periodic, fill="zeros")
        # Layers at each point work on the last axis.
        y_BHWC = self.norm(y_BCHW.permute(0, 2, 3, 1), conditions_BK)
        y_BHWC = self.narrow(F.gelu(self.widen(y_BHWC)))
        out_BCHW: Tensor = x_BCHW + y_BHWC.permute(0, 3, 1, 2)
        return out_BCHW


class UNetLevel(nn.Module):
    """The blocks on one grid."""

    def __init__(self, blocks: Sequence[ConvNeXtBlock], *, checkpointing: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpointing = checkpointing

    def forward(self, x_BCHW: Tensor, conditions_BK: Tensor, periodic: Periodic) -> Tensor:
        """(B, C, H, W) to the same shape."""
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x_BCHW = checkpoint(block, x_BCHW, conditions_BK, periodic, use_reentrant=False)
            else:
                x_BCHW = block(x_BCHW, conditions_BK, periodic)
        return x_BCHW


class UNet(nn.Module):
    """Down to the coarsest grid and up again with skip connections, for fields of any size.

    For the arguments see `UNetConfig`.
    """

    def __init__(
        self,
        signature: Signature,
        *,
        dims: Sequence[int],
        depth: int,
        kernel: int,
        expansion: int,
        residual: bool,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.signature, self.residual = signature, residual
        self.channel_fields = ChannelFields(signature)
        num_conditions = self.channel_fields.num_conditions

        def level(dim: int) -> UNetLevel:
            blocks = [ConvNeXtBlock(dim, kernel, expansion, num_conditions) for _ in range(depth)]
            return UNetLevel(blocks, checkpointing=checkpointing)

        # No normalisation here: amplitudes are part of what fields say.
        self.stem = nn.Conv2d(len(signature.inputs), dims[0], 3)
        self.encoder = nn.ModuleList(level(dim) for dim in dims)
        # Kernels of the stride: cells of the coarse grid do not overlap, so that periodic axes need no padding.
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(dims))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairwise(dims)
        )
        # Skip connections are concatenated, as in U-Net, and mixed at each point.
        self.join = nn.ModuleList(nn.Conv2d(2 * dim, dim, 1) for dim in dims[:-1])
        self.decoder = nn.ModuleList(level(dim) for dim in dims[:-1])
        self.head = nn.Conv2d(dims[0], len(signature.outputs), 1)

    def layer_names(self) -> LayerNames:
        """See `Layered`: the blocks on one grid are a layer, with the step to it."""
        steps = range(len(self.down))
        down = ((f"down.{n}.", f"encoder.{n + 1}.") for n in steps)
        up = ((f"up.{n}.", f"join.{n}.", f"decoder.{n}.") for n in reversed(steps))
        return ("stem.",), ("encoder.0.",), *down, *up, ("head.",)

    def named_axes(self) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables or conditions; see `adapt`."""
        axes: dict[str, Axes] = {
            "stem.weight": (None, "input", None, None),
            "head.weight": ("output", None, None, None),
            "head.bias": ("output",),
        }
        return {**axes, **conditional_axes(self)}

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context = ALL_VARIABLES) -> Tensor:
        """(B, C, H, W) and lead times (B,) to (B, C', H, W).

        Raises:
            ValueError: channels or scalars do not fit the network.
        """
        call = self.channel_fields.select(x_BCHW, lead_time_B, context)
        conditions_BK = encode_conditions(lead_time_B, call.scalars, self.signature.scalars)
        fields_BCHW = self.channel_fields.all_inputs(x_BCHW, call)
        y_BCHW = convolve(self.stem, fields_BCHW, periodic=context.periodic, fill="zeros")
        y_BCHW = self.head(self._descend(y_BCHW, 0, conditions_BK, context.periodic))
        if self.residual:
            y_BCHW = self.channel_fields.add_change(y_BCHW, x_BCHW, lead_time_B, call)
        return self.channel_fields.requested_outputs(y_BCHW, call)

    def _descend(self, x_BCHW: Tensor, level: int, conditions_BK: Tensor, periodic: Periodic) -> Tensor:
        """(B, C, H, W) to the same shape, by way of all coarser grids."""
        x_BCHW = self.encoder[level](x_BCHW, conditions_BK, periodic)
        if level == len(self.down):
            return x_BCHW
        height, width = x_BCHW.shape[-2:]
        # Odd sizes get a row or column that is cropped on the way up, so that any grid can be halved.
        even_BCHW = pad(x_BCHW, (0, height % 2), (0, width % 2), periodic, fill="edge")
        coarse_BChw = self._descend(self.down[level](even_BCHW), level + 1, conditions_BK, periodic)
        up_BCHW = self.up[level](coarse_BChw)[..., :height, :width]
        x_BCHW = self.join[level](torch.cat([x_BCHW, up_BCHW], 1))
        out_BCHW: Tensor = self.decoder[level](x_BCHW, conditions_BK, periodic)
        return out_BCHW
