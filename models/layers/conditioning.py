"""How lead time and the scalars of an equation reach every normalisation.

Source: the time-conditioned layer norm of Poseidon's code (Herde et al., 2024, arXiv:2405.19101): gain and
shift are affine functions of the conditions, here of any number of them.

Shapes: B batch, S scalars, K conditions, D channels; * any axes between.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.weight_cache import cache_tensors

AxisKind = Literal["input", "output", "condition"]
"""What an axis of a weight runs over."""
LINEAR_BELOW = 1e-6
"""The magnitude below which `signed_log` is about linear."""


def condition_names(scalars: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the K columns of `encode_conditions`, in order."""
    return "lead_time", *(f"value:{name}" for name in scalars), *(f"known:{name}" for name in scalars)


def signed_log(x: Tensor) -> Tensor:
    """An odd logarithm: 0 at 0, 1 at 1, and of order 1 for all magnitudes from 1e-6 upwards.

    Coefficients of equations (viscosities, forcings) range over decades, and each decade counts alike.
    """
    return x.sign() * torch.log1p(x.abs() / LINEAR_BELOW) / math.log1p(1 / LINEAR_BELOW)


def scalar_encoded_as(values: Tensor) -> Tensor:
    """The inverse of `signed_log`: scalars whose encoding is these values."""
    return values.sign() * torch.expm1(values.abs() * math.log1p(1 / LINEAR_BELOW)) * LINEAR_BELOW


def encode_conditions(lead_time_B: Tensor, scalars_BS: Tensor) -> Tensor:
    """(B, K), K = 1 + 2S: lead time, `signed_log` of the scalars, and whether each is known.

    A missing scalar (NaN) is encoded as 0 and not known.
    """
    known_BS = torch.isfinite(scalars_BS)
    values_BS = signed_log(torch.where(known_BS, scalars_BS, 0))
    return torch.cat([lead_time_B[:, None], values_BS.to(lead_time_B), known_BS.to(lead_time_B)], 1)


class ConditionalLayerNorm(nn.Module):
    """Layer normalisation over the last axis whose gain and shift are affine in the conditions."""

    def __init__(self, dim: int, num_conditions: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Linear(num_conditions, dim)
        self.bias = nn.Linear(num_conditions, dim)
        self.eps = eps

    def forward(self, x: Tensor, conditions_BK: Tensor) -> Tensor:
        """(B, *, D) to the same shape."""
        gain, shift = (_affine(part, conditions_BK, x.dim()) for part in (self.weight, self.bias))
        x = x.to(gain.dtype)
        if len(gain) == 1:
            # A single sample needs one pass over the tokens, forward and backward, instead of two.
            return F.layer_norm(x, x.shape[-1:], gain.flatten(), shift.flatten(), self.eps)
        return torch.addcmul(shift, _normalize(x, self.eps), gain)


def _normalize(x: Tensor, eps: float) -> Tensor:
    # On the CPU the kernel without gain and shift is half as fast as the one with them.
    return F.layer_norm(x, x.shape[-1:], *_one_and_zero(x.shape[-1], x.dtype, x.device), eps)


@cache_tensors
def _one_and_zero(dim: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.ones(dim, dtype=dtype, device=device), torch.zeros(dim, dtype=dtype, device=device)


def _affine(part: nn.Linear, conditions_BK: Tensor, num_axes: int) -> Tensor:
    """(B, 1.., D)."""
    conditions_BK = conditions_BK.to(part.weight.dtype)
    # bf16 has 8 significant bits: nearby lead times would become equal.
    with full_precision(conditions_BK):
        # TF32, in which GPUs may multiply matrices, has 11; the sum of a few columns is exact.
        exact = conditions_BK.device.type != "cpu" and torch.backends.cuda.matmul.allow_tf32
        out_BD: Tensor = _columns(part, conditions_BK) if exact else part(conditions_BK)
    return out_BD.view(len(out_BD), *[1] * (num_axes - 2), -1)


def _columns(part: nn.Linear, conditions_BK: Tensor) -> Tensor:
    """(B, D): what the linear layer gives, by products of numbers, which are never rounded to TF32."""
    return part.bias + (conditions_BK[:, None] * part.weight).sum(-1)


def conditional_axes(network: nn.Module) -> dict[str, tuple[AxisKind | None, ...]]:
    """What the axes of the weights of a network's conditional normalisations run over, see `adapt`."""
    axes: dict[str, tuple[AxisKind | None, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, ConditionalLayerNorm):
            axes |= {f"{name}.{part}.weight": (None, "condition") for part in ("weight", "bias")}
    return axes


class UnconditionalLayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis that ignores the conditions it is given."""

    def forward(self, x: Tensor, conditions_BK: Tensor) -> Tensor:  # type: ignore[override]
        """(B, *, D) to the same shape."""
        return super().forward(x)


def layer_norm(dim: int, num_conditions: int, eps: float) -> ConditionalLayerNorm | UnconditionalLayerNorm:
    """The conditional normalisation, or the plain one if there are no conditions."""
    if num_conditions:
        return ConditionalLayerNorm(dim, num_conditions, eps)
    return UnconditionalLayerNorm(dim, eps)


def conditional_norm(dim: int, num_conditions: int) -> ConditionalLayerNorm:
    """A conditional normalisation that starts close to a plain one."""
    norm = ConditionalLayerNorm(dim, num_conditions)
    for part in (norm.weight, norm.bias):
        # Small, but not zero: conditions matter, and have a gradient, from the first step.
        nn.init.normal_(part.weight, std=0.02)
    nn.init.ones_(norm.weight.bias)
    nn.init.zeros_(norm.bias.bias)
    return norm
