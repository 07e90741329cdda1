"""Stages of scOT: the transformer blocks of one level and the step to the next.

Source: Herde et al., Poseidon (2024, arXiv:2405.19101), and its code, whose names of weights are kept.

Shapes: B batch, h rows and w columns of tokens, D channels of a token, K conditions.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.layers.conditioning import Conditions, OwnConditions, each_norm, layer_norm, of_module
from pelagos.models.layers.padding import GridSize, Periodic
from pelagos.models.layers.precision import Linear
from pelagos.models.layers.row_layout import WHOLE, RowLayout
from pelagos.models.networks.scot.attention import Tiling, WindowAttention
from pelagos.models.networks.scot.patches import PatchMerging, PatchUnmerging


@dataclass(frozen=True)
class BlockSizes:
    """The sizes that all blocks of a network share.

    Attributes:
        num_conditions: conditions of the normalisations.
        mlp_ratio: hidden channels of the MLP, in units of a block's channels.
        qkv_bias: whether queries and values have a bias.
        bias_dim: hidden channels of the position bias.
        eps: added to variances by the normalisations.
    """

    num_conditions: int
    mlp_ratio: float
    qkv_bias: bool
    bias_dim: int
    eps: float


class Dense(nn.Module):
    """A linear layer with the reference's name of its weights."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.dense = Linear(dim_in, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """(*, D) to (*, D')."""
        out: Tensor = self.dense(x)
        return out


class MultiHeadAttention(nn.Module):
    """Window attention and the linear layer that mixes its heads."""

    def __init__(self, dim: int, num_heads: int, tiling: Tiling, sizes: BlockSizes) -> None:
        super().__init__()
        # `self.self` and `output.dense` are the reference's names, without which its weights would not load.
        self.self = WindowAttention(dim, num_heads, tiling, qkv_bias=sizes.qkv_bias, bias_dim=sizes.bias_dim)
        self.output = Dense(dim, dim)

    def forward(self, x_BhwD: Tensor, periodic: Periodic, layout: RowLayout = WHOLE) -> Tensor:
        """(B, h, w, D) to the same shape."""
        grid = (x_BhwD.shape[1], x_BhwD.shape[2])
        out: Tensor = self.output(self.self(x_BhwD.flatten(1, 2), grid, periodic, layout))
        return out.view(x_BhwD.shape)


class ScOTBlock(nn.Module):
    """Attention and an MLP, each normalised before it is added.

    Source: the residual post-norm of Swin Transformer V2 (arXiv:2111.09883), section 3.2.
    """

    def __init__(self, dim: int, num_heads: int, tiling: Tiling, sizes: BlockSizes) -> None:
        super().__init__()
        # Rounded down, as in the reference.
        hidden = int(sizes.mlp_ratio * dim)
        self.attention = MultiHeadAttention(dim, num_heads, tiling, sizes)
        self.layernorm_before = layer_norm(dim, sizes.num_conditions, sizes.eps)
        self.intermediate = Dense(dim, hidden)
        self.output = Dense(hidden, dim)
        self.layernorm_after = layer_norm(dim, sizes.num_conditions, sizes.eps)

    def norms(self) -> tuple[nn.Module, ...]:
        """See `Conditioned`."""
        return self.layernorm_before, self.layernorm_after

    def forward(
        self, x_BhwD: Tensor, conditions: OwnConditions, periodic: Periodic, layout: RowLayout = WHOLE
    ) -> Tensor:
        """(B, h, w, D) to the same shape."""
        before, after = each_norm(conditions, 2)
        x_BhwD = x_BhwD + self.layernorm_before(self.attention(x_BhwD, periodic, layout), before)
        hidden: Tensor = self.output(F.gelu(self.intermediate(x_BhwD)))
        out: Tensor = x_BhwD + self.layernorm_after(hidden, after)
        return out


def apply_blocks(
    blocks: Iterable[nn.Module],
    x_BhwD: Tensor,
    conditions: Conditions,
    periodic: Periodic,
    layout: RowLayout = WHOLE,
    *,
    checkpointing: bool,
) -> Tensor:
    """(B, h, w, D) to the same shape; when checkpointing, blocks are recomputed in the backward pass."""
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            own = of_module(conditions, block)
            x_BhwD = checkpoint(block, x_BhwD, own, periodic, layout, use_reentrant=False)
        else:
            x_BhwD = block(x_BhwD, of_module(conditions, block), periodic, layout)
    return x_BhwD


class EncoderStage(nn.Module):
    """The blocks of one level, and the step to the next coarser one unless it is the last."""

    def __init__(
        self, blocks: list[ScOTBlock], downsample: PatchMerging | None, *, checkpointing: bool
    ) -> None:
        super().__init__()
        self.blocks, self.downsample = nn.ModuleList(blocks), downsample
        self.checkpointing = checkpointing

    def conditioned(self) -> list[nn.Module]:
        """The modules that take conditions."""
        return [*self.blocks, *([] if self.downsample is None else [self.downsample])]

    def forward(
        self, x_BhwD: Tensor, conditions: Conditions, periodic: Periodic, layout: RowLayout = WHOLE
    ) -> tuple[Tensor, Tensor]:
        """(B, h, w, D) to the blocks' output of the same shape, and the tokens for the next stage."""
        y_BhwD = apply_blocks(
            self.blocks, x_BhwD, conditions, periodic, layout, checkpointing=self.checkpointing
        )
        if self.downsample is None:
            return y_BhwD, y_BhwD
        # As in Poseidon's code: the step takes the stage's input as well, the skip connection does not.
        own = of_module(conditions, self.downsample)
        return y_BhwD, self.downsample(y_BhwD + x_BhwD, own, periodic, layout)


class DecoderStage(nn.Module):
    """The blocks of one level, and the step to the next finer one unless it is the last."""

    def __init__(
        self, blocks: list[ScOTBlock], upsample: PatchUnmerging | None, *, checkpointing: bool
    ) -> None:
        super().__init__()
        self.blocks, self.upsample = nn.ModuleList(blocks), upsample
        self.checkpointing = checkpointing

    def conditioned(self) -> list[nn.Module]:
        """The modules that take conditions."""
        return [*self.blocks, *([] if self.upsample is None else [self.upsample])]

    def forward(
        self,
        x_BhwD: Tensor,
        conditions: Conditions,
        periodic: Periodic,
        grid: GridSize,
        layouts: tuple[RowLayout, RowLayout] = (WHOLE, WHOLE),
    ) -> Tensor:
        """(B, h, w, D) to (B, *grid, D/2), where `grid` is that of the next finer level; `layouts` of both."""
        x_BhwD = apply_blocks(
            self.blocks, x_BhwD, conditions, periodic, layouts[0], checkpointing=self.checkpointing
        )
        if self.upsample is None:
            return x_BhwD
        finer_BhwD: Tensor = self.upsample(x_BhwD, of_module(conditions, self.upsample), grid, layouts)
        return finer_BhwD


class Stages(nn.Module):
    """The stages of the encoder, finest first, or of the decoder, coarsest first."""

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(stages)
