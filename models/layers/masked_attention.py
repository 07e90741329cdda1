"""Softmax attention with a bias on the logits, made for small windows; and vectors of a length given.

`torch.nn.functional.scaled_dot_product_attention` does the work where it is fast: without gradients, and on GPUs.

Legend: Z windows of a batch, n of a sample, M places in a window, D channels, h heads, d channels of a head.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pelagos.models.layers.precision import full_precision

SHORTEST = 1e-12
LOGITS_AT_ONCE = 2**18
"""So many fit into a core's second cache, with their gradients."""
LOGITS_KEPT = 2**22
"""Up to so many weights of a layer are kept for its gradient; more are made again."""


Part = tuple[slice, slice]
"""Windows and heads."""


def attend(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    """softmax(q k^T + bias + mask) v; the mask is that of a sample's n windows."""
    if q_ZhMd.device.type != "cpu" or not torch.is_grad_enabled():
        return _fused(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    if torch.compiler.is_compiling() or len(q_ZhMd) * bias_hMM.numel() <= LOGITS_AT_ONCE:
        return _plain(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    out: Tensor = _Attend.apply(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    return out


def _fused(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    if mask_nMM is None:
        return _sdpa(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM[None])
    if q_ZhMd.device.type != "cpu" or mask_nMM.numel() * len(bias_hMM) <= LOGITS_AT_ONCE:
        return _masked(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    # Biases of all windows together would leave the cache.
    qkv = [torch.unflatten(part, 0, (-1, len(mask_nMM))) for part in (q_ZhMd, k_ZhMd, v_ZhMd)]
    step = max(1, LOGITS_AT_ONCE // bias_hMM.numel())
    out = []
    for first in range(0, len(mask_nMM), step):
        q, k, v = (part[:, first : first + step].flatten(0, 1) for part in qkv)
        out.append(_masked(q, k, v, bias_hMM, mask_nMM[first : first + step]))
    return torch.cat([torch.unflatten(part, 0, (len(qkv[0]), -1)) for part in out], 1).flatten(0, 1)


def _masked(q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor) -> Tensor:
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
    matrices of logits. Here all is done for a few windows and heads at a time, so that logits stay in the cache;
    their softmax is kept, or made again for the gradient where it is large.
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
        inputs = (q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
        if len(q_ZhMd) * bias_hMM.numel() > LOGITS_KEPT:
            ctx.save_for_backward(*inputs, None)  # type: ignore[arg-type]
            # The fused kernel is refused to a bias that asks for a gradient, even here where none is recorded.
            return _fused(q_ZhMd.detach(), k_ZhMd.detach(), v_ZhMd.detach(), bias_hMM.detach(), mask_nMM)
        weights_ZhMM = bias_hMM.new_empty(len(q_ZhMd), *bias_hMM.shape)
        ctx.save_for_backward(*inputs, weights_ZhMM)  # type: ignore[arg-type]
        # Laid out as the next layer wants it: a window's heads side by side.
        out_ZMhd = v_ZhMd.new_empty([v_ZhMd.shape[axis] for axis in (0, 2, 1, 3)])
        out_ZhMd = out_ZMhd.transpose(1, 2)
        for part, bias in _parts(len(q_ZhMd), bias_hMM, mask_nMM):
            q, k, v = _matrices((q_ZhMd, k_ZhMd, v_ZhMd), part, bias_hMM.dtype)
            _put(out_ZhMd[part], torch.bmm(_weights(q, k, bias, weights_ZhMM[part].flatten(0, 1)), v))
        return out_ZhMd

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_ZhMd: Tensor) -> tuple[Tensor | None, ...]:
        *qkv, bias_hMM, mask_nMM, weights_ZhMM = ctx.saved_tensors  # type: ignore[attr-defined]
        grads = [torch.empty_like(tensor) for tensor in qkv]
        grad_hMM = torch.zeros_like(bias_hMM)
        for part, bias in _parts(len(grad_ZhMd), bias_hMM, mask_nMM):
            q, k, v, grad = _matrices((*qkv, grad_ZhMd), part, bias_hMM.dtype)
            if weights_ZhMM is None:
                weights = _weights(q, k, bias, bias_hMM.new_empty(len(q), *bias_hMM.shape[1:]))
            else:
                weights = weights_ZhMM[part].flatten(0, 1)
            grad_weights = torch.bmm(grad, v.transpose(-2, -1))
            grad_logits = torch._softmax_backward_data(
                grad_weights, weights, -1, weights.dtype, grad_input=grad_weights
            )
            _, heads = part
            for window in torch.unflatten(grad_logits, 0, (-1, heads.stop - heads.start)):
                grad_hMM[heads].add_(window)
            _put(grads[0][part], torch.bmm(grad_logits, k))
            # Faster by a third than products of transposed matrices of logits.
            _put(grads[1][part], torch.bmm(q.transpose(-2, -1), grad_logits).transpose(-2, -1))
            _put(grads[2][part], torch.bmm(grad.transpose(-2, -1), weights).transpose(-2, -1))
        return *grads, grad_hMM, None


def _matrices(tensors: tuple[Tensor, ...], part: Part, dtype: torch.dtype) -> list[Tensor]:
    return [tensor[part].flatten(0, 1).to(dtype) for tensor in tensors]


def _put(out_ZhMd: Tensor, matrices_zMd: Tensor) -> None:
    out_ZhMd.copy_(torch.unflatten(matrices_zMd, 0, out_ZhMd.shape[:2]))


def _weights(q_zMd: Tensor, k_zMd: Tensor, bias_nhMM: Tensor, out_zMM: Tensor) -> Tensor:
    """softmax(q k^T + bias) of windows and heads in a row, the windows a multiple of n."""
    bias_zMM = bias_nhMM.flatten(0, 1)
    if len(q_zMd) == len(bias_zMM):
        # The product is added to a copy of the bias: one pass less.
        torch.baddbmm(bias_zMM, q_zMd, k_zMd.transpose(-2, -1), out=out_zMM)
    else:
        torch.bmm(q_zMd, k_zMd.transpose(-2, -1), out=out_zMM)
        torch.unflatten(out_zMM, 0, (-1, len(bias_zMM))).add_(bias_zMM)
    return torch.softmax(out_zMM, -1, out=out_zMM)


def _parts(total: int, bias_hMM: Tensor, mask_nMM: Tensor | None) -> Iterator[tuple[Part, Tensor]]:
    """Slices of windows and heads with at most `LOGITS_AT_ONCE`, or one matrix, and their (n, h, M, M) biases.

    A slice has whole samples, or some of the windows of one.
    """
    num_heads, area = len(bias_hMM), bias_hMM[0].numel()
    period = 1 if mask_nMM is None else len(mask_nMM)
    heads = min(num_heads, max(1, LOGITS_AT_ONCE // area))
    windows = max(1, LOGITS_AT_ONCE // (heads * area))
    for head, first in product(range(0, num_heads, heads), range(0, period, windows)):
        some, last = slice(head, min(head + heads, num_heads)), min(first + windows, period)
        bias = bias_hMM[None, some] if mask_nMM is None else bias_hMM[some] + mask_nMM[first:last, None]
        # Whole samples together where they fit, else a part of one after the other's.
        whole = last - first == period
        step = windows - windows % period if whole else period
        for start in range(first, total, step):
            end = min(start + step, total) if whole else start + last - first
            yield (slice(start, end), some), bias


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
