"""Softmax attention with a bias on the logits, made for small windows; and vectors of a length given.

`torch.nn.functional.scaled_dot_product_attention` does the work where it is fast: without gradients, and on GPUs.

Legend: Z windows of a batch, n of a sample, M places in a window, D channels, h heads, d channels of a head.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pelagos.models.memo import full_precision

SHORTEST = 1e-12
LOGITS_AT_ONCE = 2**17
"""So many fit into a core's second cache, with their gradients."""
LOGITS_KEPT = 2**19
"""Up to so many in a layer, keeping them takes less time than making them again."""


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
        return _sdpa(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM[None])
    # A sample's windows become further heads: then all samples share one bias, and it need not be copied.
    q, k, v = (
        torch.unflatten(part, 0, (-1, len(mask_nMM))).flatten(1, 2) for part in (q_ZhMd, k_ZhMd, v_ZhMd)
    )
    return _sdpa(q, k, v, (bias_hMM + mask_nMM[:, None]).flatten(0, 1)[None]).reshape(q_ZhMd.shape)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    # The CPU's kernel takes a bias in float32 as it is; autocast would round and copy it.
    with full_precision(q):
        bias = bias if q.device.type == "cpu" else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, bias, scale=1.0)


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
        bias_nhMM = bias_hMM[None] if mask_nMM is None else bias_hMM + mask_nMM[:, None]
        step = max(1, LOGITS_AT_ONCE // bias_hMM.numel())
        for part, windows in _parts(len(grad_ZhMd), len(bias_nhMM), step):
            q, k, v, grad = (tensor[part].to(bias_hMM.dtype) for tensor in (*qkv, grad_ZhMd))
            logits = _logits(q, k, bias_nhMM[windows])
            weights = torch.softmax(logits, -1, out=logits)
            grad_weights = grad @ v.transpose(-2, -1)
            grad_logits = torch._softmax_backward_data(
                grad_weights, weights, -1, weights.dtype, grad_input=grad_weights
            )
            grad_hMM += grad_logits.sum(0) if len(grad_logits) > 1 else grad_logits[0]
            grads[0][part] = grad_logits @ k
            grads[1][part] = grad_logits.transpose(-2, -1) @ q
            grads[2][part] = weights.transpose(-2, -1) @ grad
        return *grads, grad_hMM, None


def _logits(q_ZhMd: Tensor, k_ZhMd: Tensor, bias_nhMM: Tensor) -> Tensor:
    """Q k^T + bias for Z windows, a multiple of n."""
    if len(q_ZhMd) > len(bias_nhMM):
        logits = q_ZhMd @ k_ZhMd.transpose(-2, -1)
        torch.unflatten(logits, 0, (-1, len(bias_nhMM))).add_(bias_nhMM)
        return logits
    # The product is added to a copy of the bias: one pass less.
    q_zMd, k_zMd, bias_zMM = (tensor.flatten(0, 1) for tensor in (q_ZhMd, k_ZhMd, bias_nhMM))
    return torch.baddbmm(bias_zMM, q_zMd, k_zMd.transpose(-2, -1)).view(len(q_ZhMd), *bias_nhMM.shape[1:])


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
