"""Window attention with cosine similarity and a continuous position bias, on any grid.

Sources: Liu et al., Swin Transformer V2 (CVPR 2022, arXiv:2111.09883), with the details and the names of
weights of Poseidon's scOT (Herde et al., 2024, arXiv:2405.19101).

Legend: B batch, N tokens, D channels, n windows of a sample, M places in a window, Z = B n, h heads, d channels of a head.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from pelagos.models.memo import Derived, Memo, full_precision
from pelagos.models.windows import Axis, Windows
from pelagos.preprocessing.errors import ConfigError

Pair = tuple[int, int]
Flags = tuple[bool, bool]
MAX_LOGIT_SCALE = math.log(100.0)
SHORTEST = 1e-12


@dataclass(frozen=True)
class Tiling:
    """The rule by which an attention layer lays its windows on a grid.

    Attributes:
        window: the longest side of a window in tokens.
        shifted: whether windows are moved by half a window, on axes that have more than one.
        built_for: the grid that alone decides on clamped windows and shifts, as in the reference, which also
            lets padding be seen; None: the grid of the call decides, and padding is hidden.
        hidden: what is added to the logits of tokens that must not be seen.
    """

    window: int
    shifted: bool = False
    built_for: Pair | None = None
    hidden: float = float("-inf")

    @property
    def span(self) -> int:
        """The offset, in tokens, that the position bias takes as its unit."""
        window = min(self.window, *self.built_for) if self.built_for else self.window
        return max(window - 1, 1)

    def windows(self, grid: Pair, periodic: Flags) -> Windows:
        """The windows on a grid of tokens."""
        rows, columns = (
            self._axis(length, decisive, wraps)
            for length, decisive, wraps in zip(grid, self.built_for or grid, periodic, strict=True)
        )
        return Windows(rows, columns, self.hidden)

    def _axis(self, length: int, decisive: int, wraps: bool) -> Axis:
        window = min(self.window, decisive)
        shift = window // 2 if self.shifted and decisive > window else 0
        return Axis(length, window, shift, wraps, hide_padding=self.built_for is None)


class WindowAttention(Derived):
    """Multi-head attention within windows; the logits are scaled cosines plus a bias of relative position."""

    def __init__(self, dim: int, num_heads: int, tiling: Tiling, *, qkv_bias: bool = True) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"{dim} channels do not split into {num_heads} heads")
        self.num_heads, self.tiling = num_heads, tiling
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))
        self.continuous_position_bias_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, num_heads, bias=False)
        )
        self.query = nn.Linear(dim, dim, bias=qkv_bias)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=qkv_bias)
        self._memo = Memo()
        self._memo_windows: Windows | None = None

    def forward(self, x_BND: Tensor, grid: Pair, periodic: Flags) -> Tensor:
        """(B, N, D) tokens in row-major order to the same shape."""
        windows = self.tiling.windows(grid, periodic)
        x_BPD = windows.cut(x_BND)
        q_ZMD, k_ZMD, v_ZMD = (
            part(x_BPD).view(-1, windows.size, x_BPD.shape[-1]) for part in (self.query, self.key, self.value)
        )
        scale_h11 = self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        q_ZhMd, k_ZhMd = directions(q_ZMD, scale_h11), directions(k_ZMD, torch.ones_like(scale_h11))
        v_ZhMd = v_ZMD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        out_ZhMd = attend(q_ZhMd, k_ZhMd, v_ZhMd, self._bias(windows))
        return windows.join(out_ZhMd.transpose(1, 2).reshape(x_BPD.shape))

    def _bias(self, windows: Windows) -> Tensor:
        """(h, M, M), or (n, h, M, M) where there is a mask."""
        if windows != self._memo_windows and not torch.compiler.is_compiling():
            self._memo.clear()
            self._memo_windows = windows
        weights = list(self.continuous_position_bias_mlp.parameters())
        return self._memo(weights, lambda: self._masked_bias(windows))

    def _masked_bias(self, windows: Windows) -> Tensor:
        bias_hMM = self.position_bias(windows)
        return bias_hMM + windows.mask(bias_hMM.device) if windows.masked else bias_hMM

    def position_bias(self, windows: Windows) -> Tensor:
        """(h, M, M) for each pair of places in a window: 16 sigmoid of a network of log-spaced offsets.

        An offset is query minus key, on a circle where the window covers a periodic axis.
        """
        weight = self.logit_scale
        axes = (windows.rows, windows.columns)
        coordinates = [_log_spaced(_offsets(axis, weight), self.tiling.span) for axis in axes]
        table_O2 = torch.cartesian_prod(*coordinates)
        with full_precision(weight):
            bias_Oh = 16 * torch.sigmoid(self.continuous_position_bias_mlp(table_O2))
        index = _pair_index(*(axis.window for axis in axes), weight.device)
        return bias_Oh.t().gather(1, index.expand(self.num_heads, -1)).view(-1, windows.size, windows.size)


def _offsets(axis: Axis, like: Tensor) -> Tensor:
    window = axis.window
    offsets = torch.arange(1 - window, window, device=like.device, dtype=like.dtype)
    return (offsets + window // 2) % window - window // 2 if axis.covers else offsets


def _log_spaced(offsets: Tensor, span: int) -> Tensor:
    scaled = offsets / span * 8
    return scaled.sign() * torch.log2(scaled.abs() + 1) / 3


def _pair_index(height: int, width: int, device: torch.device) -> Tensor:
    """(M * M,) for each pair of places the row of the table that holds their offset."""
    rows, columns = (torch.arange(size, device=device) for size in (height, width))
    down = (rows[:, None] - rows + height - 1)[:, None, :, None]
    across = (columns[:, None] - columns + width - 1)[None, :, None, :]
    return (down * (2 * width - 1) + across).flatten()


def attend(q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k^T + bias) v; the bias is (h, M, M) or, for n windows that differ, (n, h, M, M)."""
    if bias.requires_grad and not q_ZhMd.is_cuda:
        return _attend_in_steps(q_ZhMd, k_ZhMd, v_ZhMd, bias)
    if bias.dim() == 3:
        return F.scaled_dot_product_attention(q_ZhMd, k_ZhMd, v_ZhMd, bias[None].to(v_ZhMd), scale=1.0)
    # The windows of a sample become further heads: so the bias is one for all samples, and no copy is made of it.
    q, k, v = (part.unflatten(0, (-1, len(bias))).flatten(1, 2) for part in (q_ZhMd, k_ZhMd, v_ZhMd))
    out = F.scaled_dot_product_attention(q, k, v, bias.flatten(0, 1)[None].to(v), scale=1.0)
    return out.view(q_ZhMd.shape)


def _attend_in_steps(q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias: Tensor) -> Tensor:
    # PyTorch's fused kernel for the CPU has no gradient for the bias, and what takes its place is slower than this.
    logits = q_ZhMd @ k_ZhMd.transpose(-2, -1)
    logits = logits.unflatten(0, (-1, len(bias))) if bias.dim() == 4 else logits
    attention = (logits + bias).softmax(-1).view(-1, *logits.shape[-3:])
    return attention.to(v_ZhMd.dtype) @ v_ZhMd


class _Directions(torch.autograd.Function):
    """The split into heads and the division by length in one, as neither keeps what the other needs."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_ZMD: Tensor, factor_h11: Tensor) -> Tensor:
        y_ZhMd = x_ZMD.unflatten(-1, (len(factor_h11), -1)).transpose(1, 2).contiguous()
        length_ZhM1 = torch.linalg.vector_norm(y_ZhMd, dim=-1, keepdim=True).clamp_min(SHORTEST)
        y_ZhMd = y_ZhMd * (factor_h11 / length_ZhM1).to(y_ZhMd.dtype)
        ctx.save_for_backward(y_ZhMd, length_ZhM1, factor_h11)
        return y_ZhMd

    @staticmethod
    def backward(ctx: FunctionCtx, grad_ZhMd: Tensor) -> tuple[Tensor, Tensor]:
        y_ZhMd, length_ZhM1, factor_h11 = ctx.saved_tensors  # type: ignore[attr-defined]
        along_ZhM1 = (y_ZhMd * grad_ZhMd).sum(-1, keepdim=True) / factor_h11
        across_ZhMd = torch.addcmul(grad_ZhMd, y_ZhMd, (along_ZhM1 / factor_h11).to(grad_ZhMd.dtype), value=-1)
        grad_x_ZhMd = across_ZhMd * (factor_h11 / length_ZhM1).to(grad_ZhMd.dtype)
        return grad_x_ZhMd.transpose(1, 2).flatten(2), along_ZhM1.sum((0, 2), dtype=factor_h11.dtype)[..., None]


def directions(x_ZMD: Tensor, factor_h11: Tensor) -> Tensor:
    """(Z, h, M, d) vectors of each head of a length given for it; zeros stay zeros."""
    out: Tensor = _Directions.apply(x_ZMD, factor_h11)  # type: ignore[no-untyped-call]
    return out
