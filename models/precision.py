"""Where autocast lowers the precision on the CPU: only where that is the faster one.

Legend: N rows, D channels in, E channels out.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.memo import full_precision

INTENSITY = 32
"""Products per number read or written from which bf16 repays its conversions (Xeon with AMX; docs/benchmarks.md)."""


def exact_on_cpu(x: Tensor) -> AbstractContextManager[object]:
    """The context of operations that bf16 makes slower on the CPU; elsewhere autocast decides."""
    return full_precision(x) if x.device.type == "cpu" else nullcontext()


def linear(x_ND: Tensor, weight_ED: Tensor, bias_E: Tensor | None = None) -> Tensor:
    """(*, D) to (*, E)."""
    if _converts_in_vain(x_ND, weight_ED):
        with full_precision(x_ND):
            return F.linear(x_ND.to(weight_ED.dtype), weight_ED, bias_E)
    return F.linear(x_ND, weight_ED, bias_E)


def _converts_in_vain(x_ND: Tensor, weight_ED: Tensor) -> bool:
    if x_ND.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    outputs, inputs = weight_ED.shape
    rows = x_ND.numel() // inputs
    numbers = rows * (inputs + outputs) + inputs * outputs
    return rows * inputs * outputs < INTENSITY * numbers


class Linear(nn.Linear):
    """A layer of `linear`."""

    def forward(self, x_ND: Tensor) -> Tensor:
        """(*, D) to (*, E)."""
        return linear(x_ND, self.weight, self.bias)
