"""Spectral normalisation: each weight is divided by an estimate of its largest singular value.

Source: Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018
(arXiv:1802.05957), algorithm 1.

Parameters have the names that torch.nn.utils.spectral_norm gives them (`weight_orig`, `weight_u`, `weight_v`), as
published weights have. Two things differ: the network does the power iteration, once in a training step and
outside its layers, so that a layer recomputed by activation checkpointing sees the same weight; and the
divided weight is cached in evaluation.

Shapes: R rows and K columns of a weight seen as a matrix.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from pelagos.models.layers.named_axis import Axes, named_axis
from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.weight_cache import CachingModule, WeightCache

WARM_UP_ITERATIONS = 10
"""Power iterations at construction: they give σ of a random matrix to within a few per cent."""


class SpectralNorm(CachingModule):
    """What `add_spectral_norm` makes of a layer: its `weight` is `weight_orig` / σ with σ = uᵀ W v."""

    weight_orig: nn.Parameter
    weight_u: Tensor
    weight_v: Tensor

    @property
    def weight(self) -> Tensor:
        """The weight that the layer uses."""
        return self._cache((self.weight_orig, self.weight_u, self.weight_v), self._normalized_weight)

    def _normalized_weight(self) -> Tensor:
        # Copies: the next power iteration writes to u and v while this graph may still need them.
        u_R, v_K = self.weight_u.clone(), self.weight_v.clone()
        with full_precision(u_R):
            weight_RK: Tensor = _DivisionBySigma.apply(self._matrix(), u_R, v_K)
        if isinstance(self, nn.ConvTranspose2d):
            return weight_RK.view_as(self.weight_orig.transpose(0, 1)).transpose(0, 1)
        return weight_RK.view_as(self.weight_orig)

    def _matrix(self) -> Tensor:
        weight = self.weight_orig
        return (weight.transpose(0, 1) if isinstance(self, nn.ConvTranspose2d) else weight).flatten(1)

    @torch.no_grad()
    def iterate(self) -> None:
        """One power iteration: v = Wᵀu / |Wᵀu|, u = Wv / |Wv|."""
        with full_precision(self.weight_u):
            weight_RK = self._matrix()
            v_K = F.normalize(torch.mv(weight_RK.t(), self.weight_u), dim=0, eps=1e-12)
            u_R = F.normalize(torch.mv(weight_RK, v_K), dim=0, eps=1e-12)
        self.weight_v.copy_(v_K)
        self.weight_u.copy_(u_R)


class _DivisionBySigma(torch.autograd.Function):
    """W / uᵀWv for constant u and v; its gradient takes three passes over the weight instead of seven."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight_RK: Tensor, u_R: Tensor, v_K: Tensor) -> Tensor:
        sigma = torch.dot(u_R, torch.mv(weight_RK, v_K))
        quotient_RK = weight_RK / sigma
        ctx.save_for_backward(quotient_RK, u_R, v_K, sigma)
        return quotient_RK

    @staticmethod
    def backward(ctx: FunctionCtx, grad_RK: Tensor) -> tuple[Tensor, None, None]:
        quotient_RK, u_R, v_K, sigma = ctx.saved_tensors  # type: ignore[attr-defined]
        # d(W/σ) = (dW - (W/σ) dσ) / σ with dσ = uᵀ dW v.
        along = torch.dot(grad_RK.flatten(), quotient_RK.flatten())
        return torch.addr(grad_RK, -along * u_R, v_K).div_(sigma), None, None


class FrozenSpectralNorm(SpectralNorm):
    """A layer with the parameters of a normalised one, whose weight is used undivided.

    miles-credit's FuXi has such layers: timm reads the weight of its query-key-value projection without
    calling the layer, so that the hook that would divide it never runs.
    """

    def _normalized_weight(self) -> Tensor:
        return self.weight_orig.view_as(self.weight_orig)

    def iterate(self) -> None:
        """Leaves u and v alone."""


def add_spectral_norm(layer: nn.Module, *, frozen: bool = False) -> None:
    """Turns a linear or convolution layer into its spectrally normalised form, in place."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    del layer.weight
    # A change of class, unlike a wrapper, keeps the names of the layer's other parameters.
    norm, kind = FrozenSpectralNorm if frozen else SpectralNorm, type(layer)
    layer.__class__ = type(norm.__name__ + kind.__name__, (norm, kind), {})
    assert isinstance(layer, SpectralNorm)
    layer._cache = WeightCache()
    layer.register_parameter("weight_orig", weight)
    rows, columns = layer._matrix().shape
    layer.register_buffer("weight_u", weight.new_empty(rows).normal_())
    layer.register_buffer("weight_v", weight.new_empty(columns).normal_())
    for _ in range(0 if weight.is_meta else WARM_UP_ITERATIONS):
        SpectralNorm.iterate(layer)


def add_spectral_norms(network: nn.Module) -> None:
    """Normalises all linear, 2-D convolution and 2-D transposed convolution layers that are not yet."""
    for module in list(network.modules()):
        layer = isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        if layer and not isinstance(module, SpectralNorm):
            add_spectral_norm(module)


def layer_axes(name: str, layer: nn.Module, axes: Axes) -> dict[str, Axes]:
    """The named axes of a layer's weight, and of the singular vectors beside it where it is normalised.

    New slices of the vectors begin as zeros, so that σ stays what it was until the first power iteration.

    Args:
        name: of the layer.
        layer: a linear one or a convolution.
        axes: of its weight.
    """
    if not isinstance(layer, SpectralNorm):
        return {f"{name}.weight": axes}
    rows, columns = axes[:2][::-1] if isinstance(layer, nn.ConvTranspose2d) else axes[:2]
    found: dict[str, Axes] = {f"{name}.weight_orig": axes}
    for key, axis, cells in (("u", rows, 1), ("v", columns, layer.weight_orig[0, 0].numel())):
        if axis is not None:
            found[f"{name}.weight_{key}"] = (replace(named_axis(axis).within(cells), silent=True),)
    return found


def update_spectral_norms(network: nn.Module) -> None:
    """One power iteration of every normalised layer, for each training step."""
    for module in network.modules():
        if isinstance(module, SpectralNorm):
            module.iterate()
