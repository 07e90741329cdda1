"""Window attention with cosine similarity and a continuous position bias, on any grid.

Sources: Liu et al., Swin Transformer V2 (CVPR 2022, arXiv:2111.09883), eq. 2 to 4; details and names of
weights follow Poseidon's scOT (Herde et al., 2024, arXiv:2405.19101).

Shapes: B batch, N tokens, P places in all windows, D channels, n windows of a sample, Z = B n windows of a batch,
M places in a window, h heads, d channels of a head, O offsets, H hidden channels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from pelagos.models.layers.masked_attention import cosine_heads, masked_attention, scaled_heads
from pelagos.models.layers.padding import GridSize, Periodic
from pelagos.models.layers.precision import Linear, full_precision, full_precision_on_cpu, lowered
from pelagos.models.layers.row_layout import WHOLE, RowLayout
from pelagos.models.layers.weight_cache import CachingModule, WeightCache, cache_tensors
from pelagos.models.networks.scot.shared_windows import shared_windows
from pelagos.models.networks.scot.token_windows import TokenWindows, WindowAxis
from pelagos.preprocessing.errors import ConfigError

MAX_LOGIT_SCALE = math.log(100.0)
"""Cosines are multiplied by at most 100 (Swin Transformer V2, section 3.3)."""


@dataclass(frozen=True)
class Tiling:
    """How an attention layer lays its windows on a grid.

    Attributes:
        window: the longest side of a window, in tokens.
        shifted: whether windows are shifted by half a window, on axes that have more than one.
        built_for: the grid that decides on clamped windows and shifts, as in the reference, where tokens
            also attend to padding; None: the grid of the call decides, and padding is masked.
        mask_value: what is added to the logits of tokens that must not be attended to.
    """

    window: int
    shifted: bool = False
    built_for: GridSize | None = None
    mask_value: float = float("-inf")

    @property
    def span(self) -> int:
        """The offset, in tokens, that is the unit of the position bias."""
        # Without a fixed grid the unit must not depend on the call: weights mean the same offset on all grids.
        window = min(self.window, *self.built_for) if self.built_for else self.window
        return max(window - 1, 1)

    def windows(self, grid: GridSize, periodic: Periodic) -> TokenWindows:
        """The windows on a grid of tokens."""
        rows, columns = (
            self._axis(length, decisive, wraps)
            for length, decisive, wraps in zip(grid, self.built_for or grid, periodic, strict=True)
        )
        return TokenWindows(rows, columns, self.mask_value)

    def _axis(self, length: int, decisive: int, wraps: bool) -> WindowAxis:
        window = min(self.window, decisive)
        shift = window // 2 if self.shifted and decisive > window else 0
        return WindowAxis(length, window, shift, wraps, hide_padding=self.built_for is None)


class WindowAttention(CachingModule):
    """Multi-head attention within windows; the logits are scaled cosines plus a relative position bias."""

    def __init__(
        self, dim: int, num_heads: int, tiling: Tiling, *, qkv_bias: bool = True, bias_dim: int = 512
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"{dim} channels do not split into {num_heads} heads")
        self.num_heads, self.tiling = num_heads, tiling
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))
        self.continuous_position_bias_mlp = OffsetNetwork(bias_dim, num_heads)
        self.query = Linear(dim, dim, bias=qkv_bias)
        self.key = Linear(dim, dim, bias=False)
        self.value = Linear(dim, dim, bias=qkv_bias)
        self._cache = WeightCache()
        self._cached_windows: TokenWindows | None = None

    def forward(self, x_BND: Tensor, grid: GridSize, periodic: Periodic, layout: RowLayout = WHOLE) -> Tensor:
        """(B, N, D) tokens in row-major order to the same shape."""
        windows = self.tiling.windows((layout.count(grid[0]), grid[1]), periodic)
        if not layout.shared:
            return self._attend(x_BND, windows)
        windows, plan = shared_windows(windows, layout)
        x_BhwD = plan.bring(torch.unflatten(x_BND, 1, grid), 1)
        out_BND = self._attend(x_BhwD.flatten(1, 2), windows)
        return plan.take_back(out_BND.view(x_BhwD.shape), 1).flatten(1, 2)

    def _attend(self, x_BND: Tensor, windows: TokenWindows) -> Tensor:
        x_BPD = windows.partition(lowered(x_BND))
        q_ZMD, k_ZMD, v_ZMD = (
            part(x_BPD).view(-1, windows.size, x_BPD.shape[-1]) for part in (self.query, self.key, self.value)
        )
        scale_h11 = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        if x_BND.device.type == "cpu":
            # The rest is no faster in bf16 there and would need conversions: in float32 unit queries take
            # half the time, and are exact.
            q_ZMD, k_ZMD, v_ZMD = (part.to(scale_h11.dtype) for part in (q_ZMD, k_ZMD, v_ZMD))
            q_ZhMd, k_ZhMd = scaled_heads(q_ZMD, scale_h11), scaled_heads(k_ZMD, torch.ones_like(scale_h11))
        else:
            q_ZhMd, k_ZhMd = cosine_heads(q_ZMD, k_ZMD, scale_h11)
        v_ZhMd = torch.unflatten(v_ZMD, -1, (self.num_heads, -1)).transpose(1, 2)
        mask_nMM = windows.mask(x_BND.device) if windows.masked else None
        with full_precision_on_cpu(q_ZhMd):
            out_ZhMd = masked_attention(q_ZhMd, k_ZhMd, v_ZhMd, self._bias(windows), mask_nMM)
        return windows.merge(out_ZhMd.transpose(1, 2).reshape(x_BPD.shape))

    def _bias(self, windows: TokenWindows) -> Tensor:
        if windows != self._cached_windows and not torch.compiler.is_compiling():
            # The bias depends on the windows as well as on the weights that the cache watches.
            self._cache.clear()
            self._cached_windows = windows
        weights = list(self.continuous_position_bias_mlp.parameters())
        return self._cache(weights, lambda: self.position_bias(windows))

    def position_bias(self, windows: TokenWindows) -> Tensor:
        """(h, M, M): for query and key place in a window, a function of their offset.

        If a window covers a periodic axis, the offset is the one on a circle.
        """
        weight = self.logit_scale
        rows, columns = ((axis.window, axis.covers_circle) for axis in (windows.rows, windows.columns))
        offsets_O2, index = _offset_table(rows, columns, self.tiling.span, weight.dtype, weight.device)
        with full_precision(weight):
            bias_hO = self.continuous_position_bias_mlp(offsets_O2)
        bias_hMM: Tensor = bias_hO.gather(1, index.expand(self.num_heads, -1))
        return bias_hMM.view(-1, windows.size, windows.size)


class OffsetNetwork(nn.Sequential):
    """Two layers from log-spaced offsets to a position bias, 16 sigmoid(...), for each head."""

    def __init__(self, hidden: int, num_heads: int) -> None:
        super().__init__(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, num_heads, bias=False))

    def forward(self, offsets_O2: Tensor) -> Tensor:
        """(O, 2) to (h, O)."""
        first, last = self[0], self[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        if torch.compiler.is_compiling() or offsets_O2.device.type not in ("cpu", "meta"):
            hidden_HO = torch.addmm(first.bias[:, None], first.weight, offsets_O2.t())
            return 16 * torch.sigmoid(last.weight @ hidden_HO.relu_())
        # Twice as fast on the CPU with offsets as columns and the first layer's bias as a column of its weight.
        offsets_3O = torch.cat([offsets_O2.t(), torch.ones_like(offsets_O2.t()[:1])])
        first_H3 = torch.cat([first.weight, first.bias[:, None]], 1)
        values_hO: Tensor = _TwoLayers.apply(offsets_3O, first_H3, last.weight)
        return 16 * torch.sigmoid(values_hO)


HIDDEN_PER_BLOCK = 2**17
"""As many hidden values as fit into a core's second-level cache together with their gradients."""


class _TwoLayers(torch.autograd.Function):
    """The network without its sigmoid, for a block of hidden channels at a time, which stays in the cache."""

    @staticmethod
    def forward(ctx: FunctionCtx, offsets_3O: Tensor, first_H3: Tensor, last_hH: Tensor) -> Tensor:
        ctx.save_for_backward(offsets_3O, first_H3, last_hH)
        out_hO = offsets_3O.new_zeros(len(last_hH), offsets_3O.shape[1])
        for part in _hidden_blocks(offsets_3O, first_H3):
            out_hO.addmm_(last_hH[:, part], (first_H3[part] @ offsets_3O).relu_())
        return out_hO

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_hO: Tensor) -> tuple[Tensor | None, ...]:
        offsets_3O, first_H3, last_hH = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_H3, grad_hH = torch.empty_like(first_H3), torch.empty_like(last_hH)
        for part in _hidden_blocks(offsets_3O, first_H3):
            hidden = (first_H3[part] @ offsets_3O).relu_()
            grad_hH[:, part] = grad_hO @ hidden.t()
            grad = last_hH[:, part].t() @ grad_hO
            torch.ops.aten.threshold_backward.grad_input(grad, hidden, 0, grad_input=grad)
            grad_H3[part] = (offsets_3O @ grad.t()).t()
        return None, grad_H3, grad_hH


def _hidden_blocks(offsets_3O: Tensor, first_H3: Tensor) -> Iterator[slice]:
    step = max(1, HIDDEN_PER_BLOCK // offsets_3O.shape[1])
    return (slice(start, start + step) for start in range(0, len(first_H3), step))


@cache_tensors
def _offset_table(
    rows: tuple[int, bool], columns: tuple[int, bool], span: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Log-spaced offsets (O, 2), and the index of its offset for each pair of places (M * M,).

    Each axis is given as the length of a window and whether that is a whole circle.
    """
    offsets_O2 = torch.cartesian_prod(*(_log_spaced(*axis, span, dtype, device) for axis in (rows, columns)))
    height, width = rows[0], columns[0]
    y, x = (torch.arange(size, device=device) for size in (height, width))
    down = (y[:, None] - y + height - 1)[:, None, :, None]
    across = (x[:, None] - x + width - 1)[None, :, None, :]
    return offsets_O2, (down * (2 * width - 1) + across).flatten()


def _log_spaced(window: int, circle: bool, span: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    offsets = torch.arange(1 - window, window, dtype=dtype, device=device)
    if circle:
        offsets = (offsets + window // 2) % window - window // 2
    # Swin Transformer V2, eq. 4, in the scaling of its code: -1 to 1 for offsets from -span to span.
    scaled = offsets / span * 8
    return scaled.sign() * torch.log2(scaled.abs() + 1) / 3
