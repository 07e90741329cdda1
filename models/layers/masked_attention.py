"""Softmax attention within small windows, with a bias and a mask on the logits.

`torch.nn.functional.scaled_dot_product_attention` does the work where it is fast: without gradients, and on GPUs.

Shapes: Z windows of a batch, n windows of a sample, M places in a window, D channels, h heads, d channels of a head;
z windows and heads of a block in a row.
"""

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pelagos.models.layers.precision import full_precision

MIN_NORM = 1e-12
LOGITS_PER_BLOCK = 2**18
"""As many logits as fit into a core's second-level cache together with their gradients."""
MAX_SAVED_LOGITS = 2**22
"""The most attention weights a layer saves for its backward pass; beyond that they are recomputed."""
# With both, a training step of scOT takes 199 ms instead of 221, and with a batch of 4 486 ms instead of 637.

WindowBlock = tuple[slice, slice]
"""A range of windows and a range of heads."""


def masked_attention(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    """(Z, h, M, d): softmax(q kᵀ + bias + mask) v; all samples share the mask of their n windows."""
    if q_ZhMd.device.type != "cpu" or not torch.is_grad_enabled():
        return _fused_attention(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    if torch.compiler.is_compiling() or len(q_ZhMd) * bias_hMM.numel() <= LOGITS_PER_BLOCK:
        return _explicit_attention(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    out: Tensor = _MaskedAttention.apply(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    return out


def _fused_attention(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    if mask_nMM is None:
        return _scaled_dot_product(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM[None])
    if q_ZhMd.device.type != "cpu" or mask_nMM.numel() * len(bias_hMM) <= LOGITS_PER_BLOCK:
        return _fused_attention_with_mask(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM, mask_nMM)
    # The biases of all windows together would not fit into the cache.
    qkv = [torch.unflatten(part, 0, (-1, len(mask_nMM))) for part in (q_ZhMd, k_ZhMd, v_ZhMd)]
    step = max(1, LOGITS_PER_BLOCK // bias_hMM.numel())
    out = []
    for first in range(0, len(mask_nMM), step):
        q, k, v = (part[:, first : first + step].flatten(0, 1) for part in qkv)
        out.append(_fused_attention_with_mask(q, k, v, bias_hMM, mask_nMM[first : first + step]))
    return torch.cat([torch.unflatten(part, 0, (len(qkv[0]), -1)) for part in out], 1).flatten(0, 1)


def _fused_attention_with_mask(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor
) -> Tensor:
    # A sample's windows become additional heads: all samples then share one bias, which need not be copied.
    q, k, v = (
        torch.unflatten(part, 0, (-1, len(mask_nMM))).flatten(1, 2) for part in (q_ZhMd, k_ZhMd, v_ZhMd)
    )
    bias = (bias_hMM + mask_nMM[:, None]).flatten(0, 1)[None]
    return _scaled_dot_product(q, k, v, bias).reshape(q_ZhMd.shape)


def _scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    # Normalised queries are float32 under autocast, where keys and values are bf16.
    q = q.to(v.dtype)
    # The CPU's kernel takes a float32 bias as it is; autocast would round and copy it.
    with full_precision(q):
        bias = bias if q.device.type == "cpu" else bias.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, bias, scale=1.0)


def _explicit_attention(
    q_ZhMd: Tensor, k_ZhMd: Tensor, v_ZhMd: Tensor, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Tensor:
    logits = q_ZhMd @ k_ZhMd.transpose(-2, -1)
    if mask_nMM is None:
        logits = logits + bias_hMM
    else:
        bias = bias_hMM + mask_nMM[:, None]
        logits = (torch.unflatten(logits, 0, (-1, len(bias))) + bias).flatten(0, 1)
    return logits.softmax(-1).to(v_ZhMd.dtype) @ v_ZhMd


class _MaskedAttention(torch.autograd.Function):
    """Attention with gradients on the CPU.

    PyTorch's fused kernel for the CPU has no gradient for the bias, and its substitute saves several matrices
    of logits. Here a few windows and heads are computed at a time, so that their logits stay in the cache; their
    softmax is saved for the backward pass, or recomputed there if it is large.
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
        if len(q_ZhMd) * bias_hMM.numel() > MAX_SAVED_LOGITS:
            ctx.save_for_backward(*inputs, None)  # type: ignore[arg-type]
            # PyTorch refuses its fused kernel to a bias that requires a gradient, even where none is recorded.
            q_ZhMd, k_ZhMd, v_ZhMd = (tensor.detach() for tensor in (q_ZhMd, k_ZhMd, v_ZhMd))
            return _fused_attention(q_ZhMd, k_ZhMd, v_ZhMd, bias_hMM.detach(), mask_nMM)
        weights_ZhMM = bias_hMM.new_empty(len(q_ZhMd), *bias_hMM.shape)
        ctx.save_for_backward(*inputs, weights_ZhMM)  # type: ignore[arg-type]
        # In the layout that the next layer reads: the heads of a place side by side.
        out_ZMhd = v_ZhMd.new_empty([v_ZhMd.shape[axis] for axis in (0, 2, 1, 3)])
        out_ZhMd = out_ZMhd.transpose(1, 2)
        for block, bias in _blocks_of_windows(len(q_ZhMd), bias_hMM, mask_nMM):
            q, k, v = _matrices((q_ZhMd, k_ZhMd, v_ZhMd), block, bias_hMM.dtype)
            weights = _attention_weights(q, k, bias, weights_ZhMM[block].flatten(0, 1))
            _write_windows(out_ZhMd[block], torch.bmm(weights, v))
        return out_ZhMd

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_ZhMd: Tensor) -> tuple[Tensor | None, ...]:
        *qkv, bias_hMM, mask_nMM, weights_ZhMM = ctx.saved_tensors  # type: ignore[attr-defined]
        grads = [torch.empty_like(tensor) for tensor in qkv]
        grad_hMM = torch.zeros_like(bias_hMM)
        for block, bias in _blocks_of_windows(len(grad_ZhMd), bias_hMM, mask_nMM):
            q, k, v, grad = _matrices((*qkv, grad_ZhMd), block, bias_hMM.dtype)
            if weights_ZhMM is None:
                weights = _attention_weights(q, k, bias, bias_hMM.new_empty(len(q), *bias_hMM.shape[1:]))
            else:
                weights = weights_ZhMM[block].flatten(0, 1)
            grad_weights = torch.bmm(grad, v.transpose(-2, -1))
            grad_logits = torch._softmax_backward_data(
                grad_weights, weights, -1, weights.dtype, grad_input=grad_weights
            )
            _, heads = block
            for window in torch.unflatten(grad_logits, 0, (-1, heads.stop - heads.start)):
                grad_hMM[heads].add_(window)
            _write_windows(grads[0][block], torch.bmm(grad_logits, k))
            # Faster by a third than the product with the transposed logits.
            _write_windows(grads[1][block], torch.bmm(q.transpose(-2, -1), grad_logits).transpose(-2, -1))
            _write_windows(grads[2][block], torch.bmm(grad.transpose(-2, -1), weights).transpose(-2, -1))
        return *grads, grad_hMM, None


def _matrices(tensors: tuple[Tensor, ...], block: WindowBlock, dtype: torch.dtype) -> list[Tensor]:
    return [tensor[block].flatten(0, 1).to(dtype) for tensor in tensors]


def _write_windows(out_ZhMd: Tensor, matrices_zMd: Tensor) -> None:
    out_ZhMd.copy_(torch.unflatten(matrices_zMd, 0, out_ZhMd.shape[:2]))


def _attention_weights(q_zMd: Tensor, k_zMd: Tensor, bias_nhMM: Tensor, out_zMM: Tensor) -> Tensor:
    """softmax(q kᵀ + bias) of a block, whose windows are a multiple of the n windows of the bias."""
    bias_zMM = bias_nhMM.flatten(0, 1)
    if len(q_zMd) == len(bias_zMM):
        # One pass fewer: the product is added to a copy of the bias.
        torch.baddbmm(bias_zMM, q_zMd, k_zMd.transpose(-2, -1), out=out_zMM)
    else:
        torch.bmm(q_zMd, k_zMd.transpose(-2, -1), out=out_zMM)
        torch.unflatten(out_zMM, 0, (-1, len(bias_zMM))).add_(bias_zMM)
    return torch.softmax(out_zMM, -1, out=out_zMM)


def _blocks_of_windows(
    total: int, bias_hMM: Tensor, mask_nMM: Tensor | None
) -> Iterator[tuple[WindowBlock, Tensor]]:
    """Blocks of at most `LOGITS_PER_BLOCK` logits, or of one matrix of them, with their (n, h, M, M) biases.

    A block holds whole samples, or some of the windows of one sample.
    """
    num_heads, area = len(bias_hMM), bias_hMM[0].numel()
    period = 1 if mask_nMM is None else len(mask_nMM)
    heads_per_block = min(num_heads, max(1, LOGITS_PER_BLOCK // area))
    windows = max(1, LOGITS_PER_BLOCK // (heads_per_block * area))
    for head, first in product(range(0, num_heads, heads_per_block), range(0, period, windows)):
        heads, last = slice(head, min(head + heads_per_block, num_heads)), min(first + windows, period)
        bias = bias_hMM[None, heads] if mask_nMM is None else bias_hMM[heads] + mask_nMM[first:last, None]
        # Whole samples together if they fit, otherwise the same windows of one sample after the other.
        whole = last - first == period
        step = windows - windows % period if whole else period
        for start in range(first, total, step):
            end = min(start + step, total) if whole else start + last - first
            yield (slice(start, end), heads), bias


def scaled_heads(x_ZMD: Tensor, factor_h11: Tensor) -> Tensor:
    """(Z, M, D) to (Z, h, M, d): each head's vectors rescaled to the length `factor`; zero vectors stay zero.

    Scaled cosine attention needs them (Liu et al., Swin Transformer V2, arXiv:2111.09883, eq. 2).
    """
    out: Tensor = _ScaledHeads.apply(x_ZMD, factor_h11)
    return out


def cosine_heads(q_ZMD: Tensor, k_ZMD: Tensor, scale_h11: Tensor) -> tuple[Tensor, Tensor]:
    """(Z, M, D) queries and keys to (Z, h, M, d), whose products are cosines times each head's scale.

    `scaled_heads` for GPUs, which compute a root mean square in one kernel where that takes six; views need no copy.
    """
    q_ZMhd, k_ZMhd = (torch.unflatten(part, -1, (len(scale_h11), -1)) for part in (q_ZMD, k_ZMD))
    dim = q_ZMhd.shape[-1]
    with full_precision(q_ZMD):
        # A vector divided by its root mean square is sqrt(d) long.
        q_ZMhd, k_ZMhd = (F.rms_norm(part, (dim,), eps=MIN_NORM**2 / dim) for part in (q_ZMhd, k_ZMhd))
        # Not scaled in bf16: all logits of a head would be too large or too small by up to 0.4 %.
        q_ZMhd = (q_ZMhd * (scale_h11[..., 0] / dim)).to(k_ZMhd.dtype)
    return q_ZMhd.transpose(1, 2), k_ZMhd.transpose(1, 2)


class _ScaledHeads(torch.autograd.Function):
    """Splitting into heads and scaling in one function: autograd would save the tensors of both."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_ZMD: Tensor, factor_h11: Tensor) -> Tensor:
        y_ZhMd = torch.unflatten(x_ZMD, -1, (len(factor_h11), -1)).transpose(1, 2).contiguous()
        length_ZhM1 = torch.linalg.vector_norm(y_ZhMd, dim=-1, keepdim=True).clamp_min(MIN_NORM)
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
