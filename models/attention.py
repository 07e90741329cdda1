"""Window attention with cosine similarity and a continuous position bias, on any grid.

Sources: Liu et al., Swin Transformer V2 (CVPR 2022, arXiv:2111.09883), with the details and the names of
weights of Poseidon's scOT (Herde et al., 2024, arXiv:2405.19101).

Legend: B batch, N tokens, D channels, n windows of a sample, Z = B n windows of a batch, M places in a window,
h heads, d channels of a head, O offsets.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from pelagos.models.memo import Derived, Memo, full_precision
from pelagos.models.windows import Axis, Windows, kept
from pelagos.preprocessing.errors import ConfigError

Pair = tuple[int, int]
Flags = tuple[bool, bool]
MAX_LOGIT_SCALE = math.log(100.0)
SHORTEST = 1e-12
LOGITS_AT_ONCE = 2**18
LOGITS_KEPT = 2**19


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

    def __init__(
        self, dim: int, num_heads: int, tiling: Tiling, *, qkv_bias: bool = True, bias_dim: int = 512
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"{dim} channels do not split into {num_heads} heads")
        self.num_heads, self.tiling = num_heads, tiling
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10.0)))
        self.continuous_position_bias_mlp = OffsetNetwork(bias_dim, num_heads)
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
        v_ZhMd = torch.unflatten(v_ZMD, -1, (self.num_heads, -1)).transpose(1, 2)
        mask_nMM = windows.mask(x_BND.device) if windows.masked else None
        out_ZhMd = attend(q_ZhMd, k_ZhMd, v_ZhMd, self._bias(windows), mask_nMM)
        return windows.join(out_ZhMd.transpose(1, 2).reshape(x_BPD.shape))

    def _bias(self, windows: Windows) -> Tensor:
        if windows != self._memo_windows and not torch.compiler.is_compiling():
            self._memo.clear()
            self._memo_windows = windows
        weights = list(self.continuous_position_bias_mlp.parameters())
        return self._memo(weights, lambda: self.position_bias(windows))

    def position_bias(self, windows: Windows) -> Tensor:
        """(h, M, M) for each pair of places in a window, query first: a function of their offset.

        Where a window covers a periodic axis the offset is that on a circle.
        """
        weight = self.logit_scale
        rows, columns = ((axis.window, axis.covers) for axis in (windows.rows, windows.columns))
        offsets_O2, index = _offset_table(rows, columns, self.tiling.span, weight.dtype, weight.device)
        with full_precision(weight):
            bias_hO = self.continuous_position_bias_mlp(offsets_O2)
        bias_hMM: Tensor = bias_hO.gather(1, index.expand(self.num_heads, -1))
        return bias_hMM.view(-1, windows.size, windows.size)


class OffsetNetwork(nn.Sequential):
    """Two layers from log-spaced offsets to 16 sigmoid(...), a bias for each head."""

    def __init__(self, hidden: int, num_heads: int) -> None:
        super().__init__(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, num_heads, bias=False))

    def forward(self, offsets_O2: Tensor) -> Tensor:
        """(O, 2) to (h, O)."""
        first, last = self[0], self[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        # Offsets run along rows, and the first layer's bias is a column of its weight: twice as fast on the CPU.
        offsets_3O = torch.cat([offsets_O2.t(), torch.ones_like(offsets_O2.t()[:1])])
        hidden = torch.cat([first.weight, first.bias[:, None]], 1) @ offsets_3O
        return 16 * torch.sigmoid(last.weight @ hidden.relu_())


@kept
def _offset_table(
    rows: tuple[int, bool], columns: tuple[int, bool], span: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Log-spaced offsets (O, 2) and, for each pair of places, which of them it has (M * M,).

    The axes are given as the length of a window and whether that is a whole circle.
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
    scaled = offsets / span * 8
    return scaled.sign() * torch.log2(scaled.abs() + 1) / 3


def attend(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    """softmax(q k^T + bias + mask) v; the mask is that of a sample's n windows."""
    if q_ZhMd.device.type != "cpu" or not torch.is_grad_enabled():
        return _fused(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    if torch.compiler.is_compiling() or len(q_ZhMd) * bias_hMM.numel() <= LOGITS_KEPT:
        return _plain(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    out: Tensor = _Attend.apply(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    return out


def _fused(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    if mask_nMM is None:
        bias = bias_hMM[None].to(v_ZhMd.dtype)
        return F.scaled_dot_product_attention(q_ZhMd, k_ZhMd, v_ZhMd, bias, scale=1.0)
    # A sample's windows become further heads: then all samples share one bias, and it need not be copied.
    q, k, v = (
        torch.unflatten(part, 0, (-1, len(mask_nMM))).flatten(1, 2) for part in (q_ZhMd, k_ZhMd, v_ZhMd)
    )
    bias = (bias_hMM + mask_nMM[:, None]).flatten(0, 1)[None].to(v.dtype)
    return F.scaled_dot_product_attention(q, k, v, bias, scale=1.0).reshape(q_ZhMd.shape)


def _plain(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    logits = q_ZhMd @ k_ZhMd.transpose(-2, -1)
    if mask_nMM is None:
        logits = logits + bias_hMM
    else:
        bias = bias_hMM + mask_nMM[:, None]
        logits = (torch.unflatten(logits, 0, (-1, len(bias))) + bias).flatten(0, 1)
    return logits.softmax(-1).to(v_ZhMd.dtype) @ v_ZhMd


class _Attend(torch.autograd.Function):
    """Attention with gradients on the CPU.

    PyTorch's fused kernel for the CPU has no gradient for the bias, and what stands in for it keeps several
    matrices of logits. Here the forward pass is fused, and the backward pass makes the matrices again, a few
    windows at a time, so that they stay in the cache.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        q_ZhMd: Tensor,
        k_ZhMd: Tensor,
        v_ZhMd: Tensor,
        bias_hMM: Tensor,
        mask_nMM: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)  # type: ignore[arg-type]
        # The fused kernel is refused to a bias that asks for a gradient, even here where none is recorded.
        return _fused(q_ZhMd.detach(), k_ZhMd.detach(), v_ZhMd.detach(), bias_hMM.detach(), mask_nMM)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_ZhMd: Tensor) -> tuple[Tensor | None, ...]:
        *qkv, bias_hMM, mask_nMM = ctx.saved_tensors  # type: ignore[attr-defined]
        grads = [torch.empty_like(tensor) for tensor in qkv]
        grad_hMM = torch.zeros_like(bias_hMM)
        step = max(1, LOGITS_AT_ONCE // bias_hMM.numel())
        for part, windows in _parts(len(grad_ZhMd), 1 if mask_nMM is None else len(mask_nMM), step):
            q, k, v, grad = (tensor[part].to(bias_hMM.dtype) for tensor in (*qkv, grad_ZhMd))
            logits = (q @ k.transpose(-2, -1)).add_(bias_hMM)
            if mask_nMM is not None:
                masks = mask_nMM[windows, None]
                torch.unflatten(logits, 0, (-1, len(masks))).add_(masks)
            weights = logits.softmax(-1)
            grad_weights = grad @ v.transpose(-2, -1)
            grad_logits = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_hMM += grad_logits.sum(0) if len(grad_logits) > 1 else grad_logits[0]
            grads[0][part] = grad_logits @ k
            grads[1][part] = grad_logits.transpose(-2, -1) @ q
            grads[2][part] = weights.transpose(-2, -1) @ grad
        return *grads, grad_hMM, None


def _parts(total: int, period: int, step: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive parts of at most `step` (whole samples, or some of one's `period` windows), and which windows."""
    if step >= period:
        step -= step % period
        yield from ((slice(start, start + step), slice(0, period)) for start in range(0, total, step))
        return
    for sample in range(0, total, period):
        for first in range(0, period, step):
            last = min(first + step, period)
            yield slice(sample + first, sample + last), slice(first, last)


class _Directions(torch.autograd.Function):
    """The split into heads and the division by length in one, as neither keeps what the other needs."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_ZMD: Tensor, factor_h11: Tensor) -> Tensor:
        y_ZhMd = torch.unflatten(x_ZMD, -1, (len(factor_h11), -1)).transpose(1, 2).contiguous()
        length_ZhM1 = torch.linalg.vector_norm(y_ZhMd, dim=-1, keepdim=True).clamp_min(SHORTEST)
        scaled_ZhMd: Tensor = y_ZhMd * (factor_h11 / length_ZhM1).to(y_ZhMd.dtype)
        ctx.save_for_backward(scaled_ZhMd, length_ZhM1, factor_h11)
        return scaled_ZhMd

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_ZhMd: Tensor) -> tuple[Tensor, Tensor]:
        y_ZhMd, length_ZhM1, factor_h11 = ctx.saved_tensors  # type: ignore[attr-defined]
        dtype = grad_ZhMd.dtype
        grad_factor_ZhM1 = (y_ZhMd * grad_ZhMd).sum(-1, keepdim=True) / factor_h11
        along_ZhM1 = (grad_factor_ZhM1 / factor_h11).to(dtype)
        across_ZhMd = torch.addcmul(grad_ZhMd, y_ZhMd, along_ZhM1, value=-1)
        grad_y_ZhMd = across_ZhMd * (factor_h11 / length_ZhM1).to(dtype)
        grad_factor_h11 = grad_factor_ZhM1.sum((0, 2), dtype=factor_h11.dtype)[..., None]
        return grad_y_ZhMd.transpose(1, 2).flatten(2), grad_factor_h11


def directions(x_ZMD: Tensor, factor_h11: Tensor) -> Tensor:
    """(Z, h, M, d) vectors of each head of a length given for it; zeros stay zeros."""
    out: Tensor = _Directions.apply(x_ZMD, factor_h11)
    return out
