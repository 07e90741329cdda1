"""Initial weights of ScOT: Poseidon's, or Pelagos's, with which every parameter learns from the first step.

Poseidon draws the gains of its normalisations around 0, like any weight, and so starts with blocks that pass no
gradient: in its smallest size 817 of 844 tensors have none at lead time 0.
"""

from typing import Literal

import torch
from torch import nn

from pelagos.models.layers.conditioning import ConditionalLayerNorm
from pelagos.models.networks.scot.attention import OffsetNetwork
from pelagos.models.networks.scot.patches import PatchRecovery
from pelagos.models.networks.scot.upsampling import InterpolatedRecovery

InitialWeights = Literal["pelagos", "poseidon"]
LAYER_SCALE: dict[InitialWeights, float] = {"pelagos": 1.0, "poseidon": 1e-6}
"""Initial scales of the blocks on skip connections."""


def initialize(network: nn.Module, style: InitialWeights, deviation: float) -> None:
    """Draws all weights anew.

    Args:
        network: a ScOT; its layer scales, absolute positions and logit scales are left as they are.
        style: "poseidon": all weights normal with the same deviation, except that of the transposed convolution,
            which keeps PyTorch's default; "pelagos": normal with variance 1 / fan-in, gains of normalisations
            at 1, and a smoothing convolution close to the identity.
        deviation: the standard deviation; with "pelagos" it applies to the slopes of conditional normalisations,
            to position biases and to the smoothing convolution alone.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            own = style == "pelagos"
            _draw_normal(module, module.weight[0].numel() ** -0.5 if own else deviation)
    if style == "pelagos":
        for module in network.modules():
            _apply_pelagos_style(module, deviation)


def _draw_normal(module: nn.Linear | nn.Conv2d, deviation: float) -> None:
    nn.init.normal_(module.weight, std=deviation)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _apply_pelagos_style(module: nn.Module, deviation: float) -> None:
    if isinstance(module, ConditionalLayerNorm):
        _draw_normal(module.weight, deviation)
        _draw_normal(module.bias, deviation)
        # At the conditions' zero the normalisation is a plain one.
        nn.init.ones_(module.weight.bias)
    elif isinstance(module, OffsetNetwork):
        for layer in module:
            if isinstance(layer, nn.Linear):
                _draw_normal(layer, deviation)
    elif isinstance(module, InterpolatedRecovery):
        _draw_normal(module.projection, 0.1 * module.projection.weight[0].numel() ** -0.5)
    elif isinstance(module, PatchRecovery):
        # A tenth of the usual deviation: a fresh network predicts small changes.
        nn.init.normal_(module.projection.weight, std=0.1 * module.projection.in_channels**-0.5)
        assert module.projection.bias is not None
        nn.init.zeros_(module.projection.bias)
        nn.init.dirac_(module.mixup.weight)
        with torch.no_grad():
            module.mixup.weight.add_(deviation * torch.randn_like(module.mixup.weight))
