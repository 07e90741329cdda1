"""A stage of Swin Transformer V2 with the names of timm's SwinTransformerV2Stage, for any grid.

Source: Liu et al., Swin Transformer V2, CVPR 2022 (arXiv:2111.09883). It differs from timm's in speed only: attention
is fused, with the bias as its mask, and the position bias is cached in evaluation.

Shapes: B batch, H rows, W columns, C channels, N windows of a batch, n windows of a sample, M cells of a window,
h heads, d channels of a head.
"""

from math import log, log2

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import Mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.layers.masked_attention import masked_attention
from pelagos.models.layers.padding import GridSize
from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.weight_cache import CachingModule, WeightCache
from pelagos.preprocessing.errors import ConfigError


class CosineAttention(CachingModule):
    """Scaled cosine attention within windows, with a continuous relative position bias (eq. 2 to 4)."""

    def __init__(self, dim: int, num_heads: int, window: GridSize) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"{dim} channels do not split into {num_heads} heads")
        self.num_heads, self.window = num_heads, window
        # A logarithm, so that the scale stays positive; 10 at the start, capped at 100 (section 3.2).
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), log(10.0)))
        self.cpb_mlp = nn.Sequential(
            # 512 hidden channels whatever the number of heads, as in Swin V2.
            nn.Linear(2, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, num_heads, bias=False),
        )
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)
        self._cache = WeightCache()

    def forward(self, x_NMC: Tensor, mask_nMM: Tensor | None) -> Tensor:
        """(N, M, C) to the same shape; the mask is added to the logits of each sample's n windows."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x_NMC, self.qkv.weight, bias)
        q, k, v = qkv.reshape(*x_NMC.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        scale_h11 = self.logit_scale.clamp(max=log(100.0)).exp()
        q, k = F.normalize(q, dim=-1) * scale_h11, F.normalize(k, dim=-1)
        out_NhMd = masked_attention(q, k, v, self.position_bias(), mask_nMM)
        projected: Tensor = self.proj(out_NhMd.transpose(1, 2).flatten(2))
        return projected

    def position_bias(self) -> Tensor:
        """(h, M, M): 16 sigmoid(...) of a network of log-spaced offsets between cells."""
        return self._cache([*self.cpb_mlp.parameters(), *self.cpb_mlp.buffers()], self._compute_position_bias)

    def _compute_position_bias(self) -> Tensor:
        weight = next(self.cpb_mlp.parameters())
        rows, columns = self.window
        cell = torch.arange(rows * columns, device=weight.device)
        offsets = [axis[:, None] - axis[None, :] for axis in (cell // columns, cell % columns)]
        axes = [torch.arange(1 - side, side, device=weight.device) for side in self.window]
        scaled = [_log_spaced_float32(axis, side) for axis, side in zip(axes, self.window, strict=True)]
        table = torch.stack(torch.meshgrid(*scaled, indexing="ij"), -1).to(weight)
        with full_precision(weight):
            values = 16 * torch.sigmoid(self.cpb_mlp(table))
        return values[offsets[0] + rows - 1, offsets[1] + columns - 1].permute(2, 0, 1).contiguous()


def _log_spaced_float32(offset: Tensor, side: int) -> Tensor:
    # In float32 whatever the precision of the weights, as in timm, against which published weights are checked.
    scaled = offset.float() * (8 / max(side - 1, 1))
    return scaled.sign() * torch.log2(scaled.abs() + 1) / log2(8)


class SwinBlock(nn.Module):
    """Window attention and an MLP, each normalised and added to its input."""

    def __init__(self, dim: int, num_heads: int, window: GridSize, shift: GridSize) -> None:
        super().__init__()
        self.attn = CosineAttention(dim, num_heads, window)
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.norm2 = nn.LayerNorm(dim)
        self.window, self.shift = window, shift

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape; H and W must be multiples of the window."""
        x_BHWC = x_BHWC + self.norm1(self._window_attention(x_BHWC))
        out_BHWC: Tensor = x_BHWC + self.norm2(self.mlp(x_BHWC))
        return out_BHWC

    def _window_attention(self, x_BHWC: Tensor) -> Tensor:
        size = x_BHWC.shape[1:3]
        # A window as large as the grid sees all of it: there is nothing to shift.
        down, right = (
            0 if cells <= side else shift
            for cells, side, shift in zip(size, self.window, self.shift, strict=True)
        )
        i, j = self.window
        x_BHWC = x_BHWC.roll((-down, -right), (1, 2)) if down or right else x_BHWC
        x_NMC = rearrange(x_BHWC, "b (h i) (w j) c -> (b h w) (i j) c", i=i, j=j)
        x_NMC = self.attn(x_NMC, self._mask(x_BHWC, (down, right)) if down or right else None)
        h, w = size[0] // i, size[1] // j
        x_BHWC = rearrange(x_NMC, "(b h w) (i j) c -> b (h i) (w j) c", i=i, j=j, h=h, w=w)
        return x_BHWC.roll((down, right), (1, 2)) if down or right else x_BHWC

    def _mask(self, x_BHWC: Tensor, shift: GridSize) -> Tensor:
        """(n, M, M): -100, as in timm, between cells that the shift brought together from opposite sides."""
        row_H, column_W = (
            _regions(cells, side, step, x_BHWC.device)
            for cells, side, step in zip(x_BHWC.shape[1:3], self.window, shift, strict=True)
        )
        region_HW = 3 * row_H[:, None] + column_W[None, :]
        i, j = self.window
        region_nM = rearrange(region_HW, "(h i) (w j) -> (h w) (i j)", i=i, j=j)
        apart_nMM = region_nM[:, :, None] != region_nM[:, None, :]
        return apart_nMM * -100.0


def _regions(cells: int, side: int, shift: int, device: torch.device) -> Tensor:
    """The region 0, 1 or 2 of each cell of an axis: cells attend within theirs; all 0 without a shift."""
    cell = torch.arange(cells, device=device)
    if not shift:
        return torch.zeros_like(cell)
    # After the roll the last window along an axis holds `shift` cells from the opposite edge.
    return (cell >= cells - side).long() + (cell >= cells - shift).long()


class SwinStage(nn.Module):
    """Swin blocks, every second one with windows shifted by half a window."""

    def __init__(
        self, dim: int, depth: int, num_heads: int, window: GridSize, *, checkpointing: bool = False
    ) -> None:
        super().__init__()
        half = (window[0] // 2, window[1] // 2)
        self.blocks = nn.ModuleList(
            SwinBlock(dim, num_heads, window, half if i % 2 else (0, 0)) for i in range(depth)
        )
        self.checkpointing = checkpointing

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape; H and W must be multiples of the window."""
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x_BHWC = checkpoint(block, x_BHWC, use_reentrant=False)
            else:
                x_BHWC = block(x_BHWC)
        return x_BHWC
