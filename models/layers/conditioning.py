"""How lead time and the scalars of an equation reach every normalisation.

Source: the time-conditioned layer norm of Poseidon's code (Herde et al., 2024, arXiv:2405.19101): gain and
shift are affine functions of the conditions, here of any number of them.

Shapes: B batch, S scalars, K conditions, D channels; * any axes between.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.weight_cache import cache_tensors

AxisKind = Literal["input", "output", "condition"]
"""What an axis of a weight runs over."""
LINEAR_BELOW = 1e-6
"""The magnitude below which `signed_log` is about linear."""
WAVELENGTH = 4
"""Decades of a scalar after which its sine and cosine come again: values within one are told apart by their slope.

By `signed_log` alone a range of half a decade is 0.08 wide, beside the 1 of whether it is known, and networks hardly
heard it: the error of an FNO at the seventh step of Allen-Cahn, learnt from 32 trajectories, was 0.27 without and is
0.04 with these waves.
"""


def noise_names(number: int) -> tuple[str, ...]:
    """The names of so many scalars that are random numbers; see `layers.noise`.

    >>> noise_names(2)
    ('noise_1', 'noise_2')
    """
    return tuple(f"noise_{one}" for one in range(1, number + 1))


def condition_names(scalars: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the K columns of `encode_conditions`, in order."""
    waved = [scalars[column] for column in _waved(scalars)]
    return (
        "lead_time",
        *(f"value:{name}" for name in scalars),
        *(f"known:{name}" for name in scalars),
        *(f"sine:{name}" for name in waved),
        *(f"cosine:{name}" for name in waved),
    )


def _waved(scalars: tuple[str, ...]) -> tuple[int, ...]:
    """The columns of scalars that are told by waves, too: all but noise, which is of order 1 as it is."""
    noise = set(noise_names(len(scalars)))
    return tuple(column for column, name in enumerate(scalars) if name not in noise)


def signed_log(x: Tensor) -> Tensor:
    """An odd logarithm: 0 at 0, 1 at 1, and of order 1 for all magnitudes from 1e-6 upwards.

    Coefficients of equations (viscosities, forcings) range over decades, and each decade counts alike.
    """
    return x.sign() * torch.log1p(x.abs() / LINEAR_BELOW) / math.log1p(1 / LINEAR_BELOW)


def scalar_encoded_as(values: Tensor) -> Tensor:
    """The inverse of `signed_log`: scalars whose encoding is these values."""
    return values.sign() * torch.expm1(values.abs() * math.log1p(1 / LINEAR_BELOW)) * LINEAR_BELOW


def encode_conditions(lead_time_B: Tensor, scalars_BS: Tensor, names: tuple[str, ...]) -> Tensor:
    """(B, K): lead time, `signed_log` of the scalars, whether each is known, and waves of the logarithms.

    A missing scalar (NaN) is encoded as 0 throughout.

    Args:
        lead_time_B: lead times.
        scalars_BS: the scalars of the samples.
        names: of the scalars.
    """
    known_BS = torch.isfinite(scalars_BS)
    values_BS = signed_log(torch.where(known_BS, scalars_BS, 0))
    columns = constant(_waved(names), scalars_BS.device, torch.int64)
    decades_BS = values_BS[:, columns] * (math.log1p(1 / LINEAR_BELOW) / math.log(10))
    angle_BS, heard_BS = decades_BS * (2 * math.pi / WAVELENGTH), known_BS[:, columns]
    parts = (values_BS, known_BS, angle_BS.sin() * heard_BS, angle_BS.cos() * heard_BS)
    return torch.cat([lead_time_B[:, None], *(part.to(lead_time_B) for part in parts)], 1)


class Affine(NamedTuple):
    """What a conditional normalisation makes of its conditions: (B, D) each."""

    gain: Tensor
    shift: Tensor


OwnConditions = Tensor | tuple[Affine, ...]
"""(B, K), or what they mean to each normalisation of a module."""


class ConditionalLayerNorm(nn.Module):
    """Layer normalisation over the last axis whose gain and shift are affine in the conditions."""

    def __init__(self, dim: int, num_conditions: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Linear(num_conditions, dim)
        self.bias = nn.Linear(num_conditions, dim)
        self.eps = eps

    def forward(self, x: Tensor, conditions: Tensor | Affine) -> Tensor:
        """(B, *, D) to the same shape, by (B, K) conditions or what `project_conditions` made of them."""
        pair = self._affine(conditions) if isinstance(conditions, Tensor) else conditions
        gain, shift = (part.view(len(part), *[1] * (x.dim() - 2), -1) for part in pair)
        x = x.to(gain.dtype)
        if len(gain) == 1:
            # A single sample needs one pass over the tokens, forward and backward, instead of two.
            return F.layer_norm(x, x.shape[-1:], gain.flatten(), shift.flatten(), self.eps)
        return torch.addcmul(shift, _normalize(x, self.eps), gain)

    def _affine(self, conditions_BK: Tensor) -> Affine:
        conditions_BK = conditions_BK.to(self.weight.weight.dtype)
        if conditions_BK.device.type != "cpu" and torch.backends.cuda.matmul.allow_tf32:
            return project_conditions([self], conditions_BK)[0]
        # bf16 has 8 significant bits: nearby lead times would become equal.
        with full_precision(conditions_BK):
            return Affine(self.weight(conditions_BK), self.bias(conditions_BK))


Conditions = Tensor | Mapping[int, tuple[Affine, ...]]
"""(B, K) for all modules, or by the id of each module what they mean to its normalisations, in order."""


@runtime_checkable
class Conditioned(Protocol):
    """A module with conditional normalisations of its own."""

    def norms(self) -> tuple[nn.Module, ...]:
        """Its normalisations, in the order in which it takes their conditions."""
        ...


def each_norm(conditions: OwnConditions, count: int) -> tuple[Tensor | Affine, ...]:
    """What each of a module's normalisations takes."""
    return (conditions,) * count if isinstance(conditions, Tensor) else conditions


def of_module(conditions: Conditions, module: nn.Module) -> OwnConditions:
    """What a module takes."""
    return conditions if isinstance(conditions, Tensor) else conditions[id(module)]


def shared_conditions(modules: Sequence[nn.Module], conditions_BK: Tensor) -> Conditions:
    """The conditions of these modules from one product where hundreds of small ones take longer: on GPUs.

    Where weights are sharded (ZeRO 3), a module has its own only while it computes, and gets the conditions themselves.
    """
    # On the meta device operations are counted as on the CPU.
    if conditions_BK.device.type in ("cpu", "meta") or torch.compiler.is_compiling():
        return conditions_BK
    whole = all(part.numel() for module in modules for norm in _norms(module) for part in norm.parameters())
    return project_for_modules(modules, conditions_BK) if whole else conditions_BK


def project_for_modules(modules: Sequence[nn.Module], conditions_BK: Tensor) -> Conditions:
    """What the conditions mean to each module."""
    norms = [norm for module in modules for norm in _norms(module) if isinstance(norm, ConditionalLayerNorm)]
    if not norms:
        return conditions_BK  # nobody hears them
    pairs = iter(project_conditions(norms, conditions_BK.to(norms[0].weight.weight.dtype)))
    return {id(module): tuple(next(pairs) for _ in _norms(module)) for module in modules}


def _norms(module: nn.Module) -> tuple[nn.Module, ...]:
    assert isinstance(module, Conditioned), "a module that takes conditions names its norms"
    return module.norms()


def project_conditions(norms: Sequence[ConditionalLayerNorm], conditions_BK: Tensor) -> list[Affine]:
    """Gain and shift of each normalisation.

    By products of numbers, which no GPU rounds to TF32 or bf16 as it may the factors of matrix products: of 11 and 8
    significant bits, nearby lead times would become equal.
    """
    layers = [layer for norm in norms for layer in (norm.weight, norm.bias)]
    weight_EK, bias_E = (torch.cat([getattr(layer, key) for layer in layers]) for key in ("weight", "bias"))
    out_BE = bias_E + (conditions_BK[:, None] * weight_EK).sum(-1)
    parts = out_BE.split([layer.out_features for layer in layers], 1)
    return [Affine(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]


def _normalize(x: Tensor, eps: float) -> Tensor:
    # On the CPU the kernel without gain and shift is half as fast as the one with them.
    return F.layer_norm(x, x.shape[-1:], *_one_and_zero(x.shape[-1], x.dtype, x.device), eps)


@cache_tensors
def _one_and_zero(dim: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.ones(dim, dtype=dtype, device=device), torch.zeros(dim, dtype=dtype, device=device)


def conditional_axes(network: nn.Module) -> dict[str, tuple[None, AxisKind]]:
    """What the axes of the weights of a network's conditional normalisations run over, see `adapt`."""
    axes: dict[str, tuple[None, AxisKind]] = {}
    for name, module in network.named_modules():
        if isinstance(module, ConditionalLayerNorm):
            axes |= {f"{name}.{part}.weight": (None, "condition") for part in ("weight", "bias")}
    return axes


class UnconditionalLayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis that ignores the conditions it is given."""

    def forward(self, x: Tensor, conditions: Tensor | Affine) -> Tensor:  # type: ignore[override]
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
