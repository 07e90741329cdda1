"""Where autocast lowers the precision on the CPU: only where that is faster.

Shapes: N rows, D channels in, E channels out.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers import cpu_linear
from pelagos.models.layers.weight_cache import CachingModule, WeightCache

MIN_PRODUCTS_PER_NUMBER = 32
"""Products per converted number above which bf16 repays the conversion (Xeon with AMX; docs/benchmarks.md)."""
# Forward and backward of 48 to 48 channels for 4096 tokens take 0.74 ms in float32 and 1.0 in bf16;
# of 192 to 768 channels for 256 tokens 2.4 ms and 1.6.


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """The context in which autocast does not lower the precision on the tensor's device."""
    device = tensor.device.type
    # Entering autocast's context takes as long as a small operation.
    return torch.autocast(device, enabled=False) if _lowers(device) else nullcontext()


def _lowers(device: str) -> bool:
    """Whether autocast is on for a type of device; a meta device has none."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def full_precision_on_cpu(x: Tensor) -> AbstractContextManager[object]:
    """The context for operations that bf16 slows down on the CPU; elsewhere autocast decides."""
    return full_precision(x) if x.device.type == "cpu" else nullcontext()


def lowered(x: Tensor) -> Tensor:
    """The tensor in the type that autocast would convert it to at each use, converted once; on the CPU as it is."""
    device = x.device.type
    if device == "cpu" or not _lowers(device):
        return x
    return x.to(torch.get_autocast_dtype(device))


def mixed_precision_linear(x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None = None) -> Tensor:
    """(*, D) to (*, E), as `torch.nn.functional.linear`; in bf16 only where autocast asks for it and it pays."""
    if _autocast_converts(x_ND) and not _bf16_pays(x_ND, weight_ED, converted=weight_ED.numel()):
        return _linear_in_float32(x_ND, weight_ED, bias_E)
    return cpu_linear.fast_linear(x_ND, weight_ED, bias_E)


class Linear(CachingModule, nn.Linear):
    """A linear layer by `mixed_precision_linear` that caches its bf16 weight in evaluation."""

    def __init__(self, dim_in: int, dim_out: int, *, bias: bool = True) -> None:
        super().__init__(dim_in, dim_out, bias)
        self._cache = WeightCache()

    def forward(self, x_ND: Tensor) -> Tensor:
        """(*, D) to (*, E)."""
        if torch.is_grad_enabled() or not _autocast_converts(x_ND):
            return mixed_precision_linear(x_ND, self.weight, self.bias)
        # A cached weight costs no conversion: 384 to 1536 channels for 64 tokens take 0.34 ms, not 0.76.
        if not _bf16_pays(x_ND, self.weight, converted=0):
            return _linear_in_float32(x_ND, self.weight, self.bias)
        dtype = torch.get_autocast_dtype("cpu")
        return F.linear(x_ND, self._cache([self.weight], lambda: self.weight.to(dtype)), self.bias)


def _autocast_converts(x_ND: Tensor) -> bool:
    return x_ND.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def _bf16_pays(x_ND: Tensor, weight_ED: Tensor, converted: int) -> bool:
    outputs, inputs = weight_ED.shape
    rows = x_ND.numel() // inputs
    return rows * inputs * outputs >= MIN_PRODUCTS_PER_NUMBER * (rows * (inputs + outputs) + converted)


def _linear_in_float32(x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
    with full_precision(x_ND):
        return cpu_linear.fast_linear(x_ND.to(weight_ED.dtype), weight_ED, bias_E)
