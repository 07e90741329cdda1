"""Matrix products in float32 on the CPU, by whichever of PyTorch's two libraries is faster there.

PyTorch gives them to MKL, which uses AVX-512 on Intel's processors only; oneDNN uses it on AMD's as well, where that
is worth something from Zen 5 on.

Shapes: N rows, D channels in, E channels out.
"""

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.utils.flop_counter import register_flop_formula

from pelagos.models.layers.cpu_features import is_amd_with_wide_avx512


def fast_linear(x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None = None) -> Tensor:
    """(*, D) to (*, E), as `torch.nn.functional.linear`."""
    if torch.compiler.is_compiling() or not _serves_onednn(x_ND, weight_ED):
        return F.linear(x_ND, weight_ED, bias_E)
    if not torch.is_grad_enabled():
        return _onednn_linear(x_ND, weight_ED, bias_E)
    out: Tensor = _OneDNNLinear.apply(x_ND, weight_ED, bias_E)
    return out


def _serves_onednn(x_ND: Tensor, weight_ED: Tensor) -> bool:
    exact = x_ND.dtype == weight_ED.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return exact and x_ND.device.type == "cpu" and onednn_is_faster()


@cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor that gains from AVX-512, and PyTorch has oneDNN's product.

    On Zen 5 WXFormer's forward pass takes 119 ms instead of 156. On Zen 4, whose AVX-512 is no faster than the AVX2 of
    MKL, a training step of scOT would take 499 ms instead of 423, most of it lost on gradients of weights.
    """
    # The operator is a private one: a version of PyTorch may lack it.
    return is_amd_with_wide_avx512() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _onednn_linear(x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x_ND, weight_ED, bias_E, "none", [], "")
    return out


def _count_flops(x_shape: Sequence[int], weight_shape: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of oneDNN's product, which PyTorch's counter does not know."""
    return 2 * prod(x_shape) * weight_shape[0]


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_count_flops)


class _OneDNNLinear(torch.autograd.Function):
    """The product with gradients by oneDNN as well; PyTorch's own gradients would use MKL."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_ND, weight_ED)
        return _onednn_linear(x_ND, weight_ED, bias_E)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_NE: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, weight_ED = ctx.saved_tensors  # type: ignore[attr-defined]
        for_x, for_weight, for_bias = ctx.needs_input_grad  # type: ignore[attr-defined]
        x_ND, rows_NE = x_ND.flatten(0, -2), grad_NE.flatten(0, -2)
        return (
            fast_linear(grad_NE, weight_ED.t()) if for_x else None,
            _outer(rows_NE, x_ND) if for_weight else None,
            rows_NE.sum(0) if for_bias else None,
        )


def _outer(a_NE: Tensor, b_ND: Tensor) -> Tensor:
    """(E, D): the sum over rows of their outer products."""
    (rows, wide), narrow = a_NE.shape, b_ND.shape[1]
    # oneDNN copies a transposed first factor, and a result that is needed transposed: copy the smaller one.
    if rows * wide <= rows * narrow + wide * narrow:
        return fast_linear(a_NE.t(), b_ND.t())
    return fast_linear(b_ND.t(), a_NE.t()).t()
