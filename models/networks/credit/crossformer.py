"""The body of WXFormer: the CrossFormer encoder with a U-shaped decoder.

Sources: Wang et al., CrossFormer, ICLR 2022 (arXiv:2108.00154); Schreck et al., Community Research Earth
Digital Intelligence Twin, npj Climate and Atmospheric Science 2025 (arXiv:2411.07814). Names of submodules are
miles-credit's.

Shapes: B batch, C channels, T frames, H rows, W columns, N windows of a batch, M cells of a window, h rows and
w columns of a coarser grid.
"""

from collections.abc import Sequence
from itertools import pairwise, product
from math import prod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.layers import cpu_linear
from pelagos.models.layers.cpu_features import may_have_amx
from pelagos.models.layers.masked_attention import masked_attention
from pelagos.models.layers.named_axis import Axes, NamedAxis
from pelagos.models.layers.network_layers import LayerNames
from pelagos.models.layers.padding import Widths
from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.row_layout import WHOLE, RowLayout
from pelagos.models.layers.weight_cache import CachingModule, WeightCache
from pelagos.models.networks.credit.scale_blocks import (
    ShuffleUpBlock,
    TransposedUpBlock,
    add_residual,
    last_doubling,
    shuffle_convolution,
)
from pelagos.models.networks.credit.shared_attention import attention_rows
from pelagos.models.networks.credit.spectral_norm import layer_axes
from pelagos.preprocessing.errors import ConfigError, DataError

# The reference also has a bilinear decoder and attention in the decoder. No published layout of weights has either, so
# there would be nothing to check them against.
Decoder = Literal["pixel_shuffle", "transposed"]
NUM_STAGES = 4


class CrossEmbedding(nn.Module):
    """Convolutions of several kernel sizes and one stride, concatenated (CrossFormer, section 3.1)."""

    def __init__(self, dim_in: int, dim_out: int, kernels: Sequence[int], stride: int) -> None:
        super().__init__()
        kernels = sorted(kernels)
        if kernels[0] < stride:
            raise ConfigError(f"a kernel of {kernels[0]} cells would skip cells at stride {stride}")
        # The larger a kernel, the fewer channels it gets: its cost grows with its area.
        widths = [dim_out // 2**j for j in range(1, len(kernels))]
        widths.append(dim_out - sum(widths))
        self.convs = nn.ModuleList(
            StridedConv2d(dim_in, width, kernel, stride)
            for width, kernel in zip(widths, kernels, strict=True)
        )

    def forward(self, x_BCHW: Tensor, layout: RowLayout = WHOLE, coarser: RowLayout = WHOLE) -> Tensor:
        """(B, C, H, W) to (B, C', H // stride, W // stride); `layout` and `coarser` of the rows before and after."""
        return torch.cat([conv(x_BCHW, layout, coarser) for conv in self.convs], 1)


class StridedConv2d(nn.Conv2d):
    """A convolution with zero padding that divides the grid by its stride; an odd cell is added behind."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int) -> None:
        super().__init__(dim_in, dim_out, kernel, stride)
        self.kernel, self.step = kernel, stride

    def forward(self, x_BCHW: Tensor, layout: RowLayout = WHOLE, coarser: RowLayout = WHOLE) -> Tensor:
        """(B, C, H, W) to (B, C', H // stride, W // stride); see CrossEmbedding."""
        before, odd = divmod(self.kernel - self.step, 2)
        after = before + odd
        if layout.shared:
            return self._of_shared_rows(
                layout.strided(x_BCHW, -2, coarser, (self.step, before, self.kernel)), (before, after)
            )
        if self._in_blocks(x_BCHW):
            seen = self.kernel - self.step
            height, width = (size // self.step * self.step + seen for size in x_BCHW.shape[-2:])
            x_BCHW = F.pad(x_BCHW, (before, after, before, after))[..., :height, :width]
            with full_precision(x_BCHW):
                return _convolve_in_blocks(x_BCHW.to(self.weight.dtype), self.weight, self.bias, self.step)
        if odd:
            return super().forward(F.pad(x_BCHW, (before, after, before, after)))
        return F.conv2d(x_BCHW, self.weight, self.bias, self.step, before)

    def _of_shared_rows(self, x_BCHW: Tensor, columns: Widths) -> Tensor:
        """The convolution of all the rows that its own rows of the result depend on."""
        width = x_BCHW.shape[-1] // self.step * self.step + self.kernel - self.step
        x_BCHW = F.pad(x_BCHW, (*columns, 0, 0))[..., :width]
        if not self._in_blocks(x_BCHW):
            return F.conv2d(x_BCHW, self.weight, self.bias, self.step)
        with full_precision(x_BCHW):
            return _convolve_in_blocks(x_BCHW.to(self.weight.dtype), self.weight, self.bias, self.step)

    def _in_blocks(self, x_BCHW: Tensor) -> bool:
        large = self.kernel > MAX_FAST_KERNEL and self.kernel % self.step == 0
        # Without AMX, forward and backward of 32 x 32 cells (70 to 8 channels) take 78 ms in blocks and 130 ms
        # in bf16; without gradients bf16 is faster (17 ms instead of 24).
        exact = not torch.is_autocast_enabled("cpu") or (torch.is_grad_enabled() and not may_have_amx())
        return large and x_BCHW.device.type == "cpu" and exact


MAX_FAST_KERNEL = 8
"""The largest kernel that oneDNN handles fast in float32, especially in the backward pass."""


def _convolve_in_blocks(x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """A strided convolution as a sum of small ones, in float32 several times as fast for 32 x 32 cells."""
    # The cells of a stride become channels: what remains has stride 1 and a kernel smaller by the stride.
    x_BCHW = F.pixel_unshuffle(x_BCHW, stride)
    side = weight.shape[-1] // stride
    weight = weight.unflatten(3, (side, stride)).unflatten(2, (side, stride))
    weight = weight.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    height, width = (size - side + 1 for size in x_BCHW.shape[-2:])
    parts: list[Tensor] = []
    for top, left in product(range(0, side, MAX_FAST_KERNEL), repeat=2):
        block = weight[..., top : top + MAX_FAST_KERNEL, left : left + MAX_FAST_KERNEL]
        rows = slice(top, top + height + block.shape[-2] - 1)
        columns = slice(left, left + width + block.shape[-1] - 1)
        parts.append(F.conv2d(x_BCHW[..., rows, columns], block, None if parts else bias))
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


class ChannelNorm(nn.Module):
    """Layer normalisation over the last axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # In the shape of published weights, which are for channels first.
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        return F.layer_norm(x_BHWC, x_BHWC.shape[-1:], self.g.flatten(), self.b.flatten())


class Pointwise(nn.Conv2d):
    """A 1x1 convolution of tensors whose channels come last."""

    def __init__(self, dim_in: int, dim_out: int, *, bias: bool = True) -> None:
        super().__init__(dim_in, dim_out, 1, bias=bias)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(..., C) to (..., C')."""
        return cpu_linear.fast_linear(x_BHWC, self.weight.flatten(1), self.bias)


class PositionBias(CachingModule):
    """The dynamic position bias: a network of the offset between two cells of a window of side w.

    The published form evaluates the network for the offsets -w..w, but looks entries up as if these had been
    -(w-1)..w-1. An entry then holds the value of another offset, to which published weights have adapted.

    Source: CrossFormer, section 3.2.2.
    """

    def __init__(self, dim: int, window: int, *, published: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(2, dim)]
        for _ in range(2):
            layers += [nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim)]
        # Softmax ignores a constant, so a bias here would never be trained.
        layers += [nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, 1, bias=published)]
        self.layers = nn.Sequential(*layers)
        self.window, self.reach = window, window if published else window - 1
        self._cache = WeightCache()

    def offsets(self, device: torch.device) -> Tensor:
        """((2w-1)², 2): the offsets, in rows and columns, for which the network is evaluated."""
        entries, side = torch.arange((2 * self.window - 1) ** 2, device=device), 2 * self.reach + 1
        return torch.stack([entries // side - self.reach, entries % side - self.reach], -1)

    def forward(self) -> Tensor:
        """(M, M): the bias of each pair of query and key cell."""
        return self._cache([*self.parameters(), *self.buffers()], self._compute_position_bias)

    def _compute_position_bias(self) -> Tensor:
        weight = next(self.parameters())
        cell = torch.arange(self.window**2, device=weight.device)
        row_MM, column_MM = (
            axis[:, None] - axis[None, :] + self.window - 1
            for axis in (cell // self.window, cell % self.window)
        )
        with full_precision(weight):
            table: Tensor = self.layers(self.offsets(weight.device).to(weight)).flatten()
        return table[row_MM * (2 * self.window - 1) + column_MM]


class ShortLongAttention(nn.Module):
    """Attention within windows of neighbours (short) or of cells spread evenly over the grid (long).

    Source: the long short distance attention of CrossFormer, section 3.2.1.
    """

    def __init__(
        self, dim: int, head_dim: int, window: int, *, long: bool, published: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if dim % head_dim:
            raise ConfigError(f"a stage of {dim} channels does not split into heads of {head_dim}")
        self.norm = ChannelNorm(dim)
        self.to_qkv = Pointwise(dim, 3 * dim, bias=False)
        self.to_out = Pointwise(dim, dim)
        self.dpb = PositionBias(dim // 4, window, published=published)
        self.window, self.head_dim, self.dropout, self.long = window, head_dim, dropout, long

    def forward(self, x_BHWC: Tensor, layout: RowLayout = WHOLE) -> Tensor:
        """(B, H, W, C) to the same shape; H and W must be multiples of the window."""
        x_BHWC = self.norm(x_BHWC)
        if not layout.shared:
            return self._attend(x_BHWC)
        plan = attention_rows(layout, self.window, long=self.long)
        return plan.take_back(self._attend(plan.bring(x_BHWC, 1)), 1)

    def _attend(self, x_BHWC: Tensor) -> Tensor:
        batch, height, width, dim = x_BHWC.shape
        side = self.window
        # Each axis is split into window and place: the window is the slow part in short attention, the fast
        # one in long attention.
        if self.long:
            cut, order, back = (side, height // side, side, width // side), (2, 4, 1, 3), (3, 1, 4, 2)
        else:
            cut, order, back = (height // side, side, width // side, side), (1, 3, 2, 4), (1, 3, 2, 4)
        x_NMC = x_BHWC.reshape(batch, *cut, dim).permute(0, *order, 5).reshape(-1, side**2, dim)
        x_NMC = self._attention(self.to_qkv(x_NMC))
        x_NMC = x_NMC.reshape(batch, height // side, width // side, side, side, dim)
        return x_NMC.permute(0, *back, 5).reshape(x_BHWC.shape)

    def _attention(self, qkv_NMC: Tensor) -> Tensor:
        windows, cells, _ = qkv_NMC.shape
        q, k, v = qkv_NMC.reshape(windows, cells, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        q, bias_MM = q * self.head_dim**-0.5, self.dpb()
        if self.dropout and self.training:
            # `masked_attention` has no dropout.
            out = F.scaled_dot_product_attention(q, k, v, bias_MM.to(q.dtype), self.dropout, scale=1.0)
        else:
            out = masked_attention(q, k, v, bias_MM.expand(q.shape[1], -1, -1), None)
        x_NMC: Tensor = self.to_out(out.transpose(1, 2).flatten(2))
        return x_NMC


class FeedForward(nn.Module):
    """A pre-normalised MLP with four times the channels."""

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ChannelNorm(dim), Pointwise(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), Pointwise(4 * dim, dim)
        )

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """(B, H, W, C) to the same shape."""
        out: Tensor = self.layers(x_BHWC)
        return out


class Transformer(nn.Module):
    """Blocks of short attention, feed-forward, long attention, feed-forward, each added to its input."""

    def __init__(
        self,
        dim: int,
        depth: int,
        head_dim: int,
        windows: tuple[int, int],
        *,
        published: bool,
        dropouts: tuple[float, float] = (0.0, 0.0),
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        attention_dropout, dropout = dropouts

        def attention(long: bool) -> ShortLongAttention:
            return ShortLongAttention(
                dim, head_dim, windows[long], long=long, published=published, dropout=attention_dropout
            )

        self.layers = nn.ModuleList(
            nn.ModuleList(
                [attention(False), FeedForward(dim, dropout), attention(True), FeedForward(dim, dropout)]
            )
            for _ in range(depth)
        )
        self.windows, self.checkpointing = windows, checkpointing

    def forward(self, x_BCHW: Tensor, layout: RowLayout = WHOLE) -> Tensor:
        """(B, C, H, W) to the same shape; H and W must be multiples of both windows."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1).contiguous()
        for block in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                x_BHWC = checkpoint(_apply_block, block, x_BHWC, layout, use_reentrant=False)
            else:
                x_BHWC = _apply_block(block, x_BHWC, layout)
        return x_BHWC.permute(0, 3, 1, 2)


def _apply_block(block: nn.Module, x_BHWC: Tensor, layout: RowLayout = WHOLE) -> Tensor:
    for layer in block.children():
        if isinstance(layer, ShortLongAttention):
            x_BHWC = x_BHWC + layer(x_BHWC, layout)
        else:
            x_BHWC = add_residual(x_BHWC, layer)
    return x_BHWC


class CubeEmbedding(nn.Module):
    """A projection of each patch of all frames to one cell, normalised."""

    def __init__(self, dim_in: int, dim_out: int, patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv3d(dim_in, dim_out, patch, stride=patch)
        self.norm = nn.LayerNorm(dim_out)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, C', H / patch, W / patch); the patch holds all frames T."""
        x_BCHW = self.proj(x_BCTHW).squeeze(2)
        normed: Tensor = self.norm(x_BCHW.movedim(1, -1))
        return normed.movedim(-1, 1)


class CrossFormer(nn.Module):
    """Four stages of cross embedding and transformer, and four steps that double the grid again.

    Args:
        dim_in: input channels.
        dim_out: output channels.
        dims: channels of the stages.
        depths: transformer blocks of the stages.
        head_dim: channels of an attention head.
        local_windows: cells along a side of the windows of short attention.
        global_windows: cells along a side of the windows of long attention.
        kernels: kernel sizes of the stages' cross embeddings.
        strides: the factor by which each stage's embedding coarsens the grid.
        patch: (rows, columns) of the patches that are the first stage's cells.
        decoder: how the grid is doubled.
        groups: groups of the decoder's group normalisations.
        published: whether the form is the one of published weights, see `PositionBias`.
        dropouts: shares of attention weights and of feed-forward activations set to zero in training.
        checkpointing: whether transformer blocks are recomputed in the backward pass instead of stored.

    Attributes:
        draws: whether it draws random numbers in training.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        dims: Sequence[int],
        depths: Sequence[int],
        head_dim: int,
        local_windows: Sequence[int],
        global_windows: Sequence[int],
        kernels: Sequence[Sequence[int]],
        strides: Sequence[int],
        patch: tuple[int, int] = (1, 1),
        decoder: Decoder = "pixel_shuffle",
        groups: int,
        published: bool = False,
        dropouts: tuple[float, float] = (0.0, 0.0),
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.patch, self.strides, self.draws = patch, tuple(strides), any(dropouts)
        self.windows = tuple(zip(local_windows, global_windows, strict=True))
        if patch != (1, 1):
            self.cube_embedding = CubeEmbedding(dim_in, dims[0], (1, *patch))
        first = dim_in if patch == (1, 1) else dims[0]
        embeddings = map(CrossEmbedding, (first, *dims), dims, kernels, strides)
        transformers = (
            Transformer(
                dim,
                depth,
                head_dim,
                windows,
                published=published,
                dropouts=dropouts,
                checkpointing=checkpointing,
            )
            for dim, depth, windows in zip(dims, depths, self.windows, strict=True)
        )
        self.layers = nn.ModuleList(map(nn.ModuleList, zip(embeddings, transformers, strict=True)))
        self._add_decoder(dims, dim_out, decoder, groups)

    def _add_decoder(self, dims: Sequence[int], dim_out: int, decoder: Decoder, groups: int) -> None:
        block = ShuffleUpBlock if decoder == "pixel_shuffle" else TransposedUpBlock
        self.up_block1 = block(dims[3], dims[2], groups)
        self.up_block2 = block(2 * dims[2], dims[1], groups)
        self.up_block3 = block(2 * dims[1], dims[0], groups)
        self.up_block4 = (
            nn.Sequential(
                shuffle_convolution(2 * dims[0], dim_out),
                nn.PixelShuffle(2),
                nn.Conv2d(dim_out, dim_out, 3, padding=1),
            )
            if decoder == "pixel_shuffle"
            else nn.ConvTranspose2d(2 * dims[0], dim_out, 4, stride=2, padding=1)
        )

    def layer_names(self) -> LayerNames:
        """See `Layered`: a stage is a layer, and so is each step that doubles the grid again."""
        reads = ("cube_embedding.",) if self.patch != (1, 1) else ("layers.0.0.",)
        first = ("layers.0.",) if self.patch != (1, 1) else ("layers.0.1.",)
        stages = ((f"layers.{n}.",) for n in range(1, len(self.layers)))
        return reads, first, *stages, *((f"up_block{n}.",) for n in range(1, 5))

    def named_axes(self, reads: NamedAxis) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables, where input channels are those of `reads`."""
        axes: dict[str, Axes] = {}
        if self.patch != (1, 1):
            axes["cube_embedding.proj.weight"] = (None, reads, None, None, None)
        else:
            convs = self.layers[0].get_submodule("0.convs")
            for number, conv in enumerate(convs.children()):
                axes |= layer_axes(f"layers.0.0.convs.{number}", conv, (None, reads, None, None))
        output, last = NamedAxis(("output",)), self.up_block4
        if isinstance(last, nn.ConvTranspose2d):
            axes |= layer_axes("up_block4", last, (None, output, None, None))
            return {**axes, "up_block4.bias": (output,)}
        shuffled, silent = output.within(4), NamedAxis(("output",), silent=True)
        axes |= layer_axes("up_block4.0", last[0], (shuffled, None, None, None))
        # The last convolution mixes the outputs: new ones must not reach those that are known.
        axes |= layer_axes("up_block4.2", last[2], (output, silent, None, None))
        return {**axes, "up_block4.0.bias": (shuffled,), "up_block4.2.bias": (output,)}

    def check_shared(self, height: int, processes: int) -> None:
        """Checks that each process gets a row of each stage.

        Raises:
            ConfigError: there are fewer.
        """
        coarsest = height // self.patch[0] // prod(self.strides)
        if coarsest < processes:
            raise ConfigError(
                f"{height} rows with padding are {coarsest} rows at the last stage, too few for {processes} processes:"
                f" at most {coarsest} can share them"
            )

    def check_size(self, height: int, width: int) -> None:
        """Checks that windows divide the grid of each stage, and that each grid has half the size of the last.

        Raises:
            DataError: they do not.
        """
        for name, size, patch in (("rows", height, self.patch[0]), ("columns", width, self.patch[1])):
            cells, sizes = size // patch, []
            for stride, windows in zip(self.strides, self.windows, strict=True):
                cells //= stride
                sizes.append(cells)
                for window in windows:
                    if cells == 0 or cells % window:
                        raise DataError(
                            f"{size} {name} with padding are {cells} cells at stage {len(sizes)}, "
                            f"which windows of {window} do not divide"
                        )
            if any(fine != 2 * coarse for fine, coarse in pairwise(sizes)):
                raise DataError(
                    f"{size} {name} with padding become {sizes} cells in the four stages, "
                    "but each stage must have half the cells of the one before"
                )

    def layouts(self, layout: RowLayout) -> list[RowLayout]:
        """Those of the rows that each stage reads, of the rows that the last one gives, and of the output's rows."""
        if not layout.shared:
            return [layout] * (NUM_STAGES + 2)
        found = [layout.of(layout.starts[-1] // self.patch[0])] if self.patch != (1, 1) else [layout]
        for stride in self.strides:
            found.append(layout.of(found[-1].starts[-1] // stride))
        return [*found, layout.of(2 * found[1].starts[-1])]

    def forward(self, x_BCHW: Tensor, layout: RowLayout = WHOLE) -> Tensor:
        """(B, C, H, W) to (B, C', 16 h, 16 w), where (h, w) is the last stage's grid.

        Raises:
            DataError: the size does not fit; see `check_size`.
        """
        self.check_size(layout.count(x_BCHW.shape[-2]), x_BCHW.shape[-1])
        layouts = self.layouts(layout)
        if self.patch != (1, 1):
            if layout.shared:
                x_BCHW = layout.coarsened(x_BCHW, -2, self.patch[0], layouts[0])
            x_BCHW = self.cube_embedding(x_BCHW[:, :, None])
        # On the CPU, convolutions on small grids are faster with channels first.
        order = torch.channels_last if x_BCHW.is_cuda else torch.contiguous_format
        x_BCHW = x_BCHW.contiguous(memory_format=order)
        skips = []
        for stage, finer, coarser in zip(self.layers, layouts[:-2], layouts[1:-1], strict=True):
            embedding, transformer = stage.children()
            x_BCHW = transformer(embedding(x_BCHW, finer, coarser), coarser)
            x_BCHW = x_BCHW.contiguous(memory_format=order)
            skips.append(x_BCHW)
        x_BCHW = self.up_block1(x_BCHW, layouts[4], layouts[3])
        x_BCHW = self.up_block2(torch.cat([x_BCHW, skips[2]], 1), layouts[3], layouts[2])
        x_BCHW = self.up_block3(torch.cat([x_BCHW, skips[1]], 1), layouts[2], layouts[1])
        x_BCHW = torch.cat([x_BCHW, skips[0]], 1)
        return last_doubling(self.up_block4, x_BCHW, layouts[1], layouts[5])
