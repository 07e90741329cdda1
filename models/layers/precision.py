"""Where autocast lowers the precision on the CPU: only where that is the faster one.

Legend: N rows, D channels in, E channels out.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers import cpu_linear
from pelagos.models.layers.weight_cache import Derived, Memo

INTENSITY = 32
"""Products per number converted from which bf16 repays the conversion (Xeon with AMX; docs/benchmarks.md)."""


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """The context in which autocast does not lower the precision of operations on the tensor's device."""
    device = tensor.device.type
    # Entering autocast's context takes as long as a small operation.
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def exact_on_cpu(x: Tensor) -> AbstractContextManager[object]:
    """The context of operations that bf16 makes slower on the CPU; elsewhere autocast decides."""
    return full_precision(x) if x.device.type == "cpu" else nullcontext()


def linear(x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None = None) -> Tensor:
    """(*, D) to (*, E)."""
    if _converts(x_ND) and not _pays(x_ND, weight_ED, converted=weight_ED.numel()):
        return _exactly(x_ND, weight_ED, bias_E)
    return cpu_linear.linear(x_ND, weight_ED, bias_E)


class Linear(Derived, nn.Linear):
    """A linear layer as above, which keeps its weight in low precision while no gradient is asked for."""

    def __init__(self, dim_in: int, dim_out: int, *, bias: bool = True) -> None:
        super().__init__(dim_in, dim_out, bias)
        self._memo = Memo()

    def forward(self, x_ND: Tensor) -> Tensor:
        """(*, D) to (*, E)."""
        if torch.is_grad_enabled() or not _converts(x_ND):
            return linear(x_ND, self.weight, self.bias)
        if not _pays(x_ND, self.weight, converted=0):
            return _exactly(x_ND, self.weight, self.bias)
        dtype = torch.get_autocast_dtype("cpu")
        return F.linear(x_ND, self._memo([self.weight], lambda: self.weight.to(dtype)), self.bias)


def _converts(x_ND: Tensor) -> bool:
    return x_ND.device.type == "cpu" and torch.is_autocast_enabled("cpu")


def _pays(x_ND: Tensor, weight_ED: Tensor, converted: int) -> bool:
    outputs, inputs = weight_ED.shape
    rows = x_ND.numel() // inputs
    return rows * inputs * outputs >= INTENSITY * (rows * (inputs + outputs) + converted)


def _exactly(x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None) -> Tensor:
    with full_precision(x_ND):
        return cpu_linear.linear(x_ND.to(weight_ED.dtype), weight_ED, bias_E)
