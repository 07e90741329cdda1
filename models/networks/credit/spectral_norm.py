"""Spectral normalisation: each weight divided by an estimate of its largest singular value.

Source: Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018, algorithm 1.
Parameters are named as torch.nn.utils.spectral_norm names them (`weight_orig`, `weight_u`, `weight_v`),
since published weights are. Two things differ: a network makes the power iteration itself, once a
training step and outside of its layers, so that a layer run again by activation checkpointing sees the
same weight; and the divided weight is kept in evaluation.

Legend: R rows and K columns of a weight seen as a matrix.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.weight_cache import Derived, Memo

WARM_UP = 10
"""Power iterations when a layer is made: enough for a random matrix's σ to within some percent."""


class SpectralNorm(Derived):
    """What a layer becomes by `normalize`: its `weight` is `weight_orig` / σ, σ = uᵀ W v."""

    weight_orig: nn.Parameter
    weight_u: Tensor
    weight_v: Tensor

    @property
    def weight(self) -> Tensor:
        """The weight that the layer uses."""
        return self._memo((self.weight_orig, self.weight_u, self.weight_v), self._divide)

    def _divide(self) -> Tensor:
        # Copies, since the next step's iteration writes to u and v while this step's graph still needs them.
        u_R, v_K = self.weight_u.clone(), self.weight_v.clone()
        with full_precision(u_R):
            weight_RK: Tensor = _Quotient.apply(self._matrix(), u_R, v_K)
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


class _Quotient(torch.autograd.Function):
    """W / uᵀWv for constant u and v, with a gradient in three passes over the weight instead of seven."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight_RK: Tensor, u_R: Tensor, v_K: Tensor) -> Tensor:
        sigma = torch.dot(u_R, torch.mv(weight_RK, v_K))
        quotient_RK = weight_RK / sigma
        ctx.save_for_backward(quotient_RK, u_R, v_K, sigma)
        return quotient_RK

    @staticmethod
    def backward(ctx: FunctionCtx, grad_RK: Tensor) -> tuple[Tensor, None, None]:
        quotient_RK, u_R, v_K, sigma = ctx.saved_tensors  # type: ignore[attr-defined]
        along = torch.dot(grad_RK.flatten(), quotient_RK.flatten())
        return torch.addr(grad_RK, -along * u_R, v_K).div_(sigma), None, None


class FrozenSpectralNorm(SpectralNorm):
    """A layer with the parameters of a normalised one whose weight is used as it is.

    miles-credit's FuXi has such layers: timm reads the weight of its query-key-value projection without
    calling the layer, and the hook that would divide it never runs.
    """

    def _divide(self) -> Tensor:
        return self.weight_orig.view_as(self.weight_orig)

    def iterate(self) -> None:
        """Leave u and v alone."""


def normalize(layer: nn.Module, *, frozen: bool = False) -> None:
    """Turn a linear or convolution layer into its spectrally normalised form, in place."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    del layer.weight
    norm, kind = FrozenSpectralNorm if frozen else SpectralNorm, type(layer)
    layer.__class__ = type(norm.__name__ + kind.__name__, (norm, kind), {})
    assert isinstance(layer, SpectralNorm)
    layer._memo = Memo()
    layer.register_parameter("weight_orig", weight)
    rows, columns = layer._matrix().shape
    layer.register_buffer("weight_u", weight.new_empty(rows).normal_())
    layer.register_buffer("weight_v", weight.new_empty(columns).normal_())
    for _ in range(0 if weight.is_meta else WARM_UP):
        SpectralNorm.iterate(layer)


def normalize_all(network: nn.Module) -> None:
    """Normalise every linear, 2-D convolution and 2-D transposed convolution layer that is not yet."""
    for module in list(network.modules()):
        layer = isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        if layer and not isinstance(module, SpectralNorm):
            normalize(module)


def iterate_all(network: nn.Module) -> None:
    """One power iteration of every normalised layer: what a network does at each training step."""
    for module in network.modules():
        if isinstance(module, SpectralNorm):
            module.iterate()
