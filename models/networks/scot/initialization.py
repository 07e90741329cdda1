"""Initial weights of ScOT: Poseidon's, or Pelagos's, with which every parameter learns from the first step.

Poseidon draws gains of norms like any weight, around 0, and so starts as a network of dead blocks: measured on
its smallest size, 817 of 844 tensors have no gradient at lead time 0.
"""

from typing import Literal

import torch
from torch import nn

from pelagos.models.layers.conditioning import ConditionalLayerNorm
from pelagos.models.networks.scot.attention import OffsetNetwork
from pelagos.models.networks.scot.patches import PatchRecovery

Style = Literal["pelagos", "poseidon"]
LAYER_SCALE: dict[Style, float] = {"pelagos": 1.0, "poseidon": 1e-6}


def initialize(network: nn.Module, style: Style, deviation: float) -> None:
    """Draw all weights anew.

    Args:
        network: its layer scales, tables of positions and logit scales are left as they are.
        style: "poseidon": all weights normal with one deviation but for the transposed convolution, which keeps
            PyTorch's default; "pelagos": normal with variance 1 / fan-in, gains of norms at 1, a smoothing
            convolution close to the identity.
        deviation: the one deviation; with "pelagos" of slopes and position biases alone.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            own = style == "pelagos"
            _draw(module, module.weight[0].numel() ** -0.5 if own else deviation)
    if style == "pelagos":
        for module in network.modules():
            _refine(module, deviation)


def _draw(module: nn.Linear | nn.Conv2d, deviation: float) -> None:
    nn.init.normal_(module.weight, std=deviation)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _refine(module: nn.Module, deviation: float) -> None:
    if isinstance(module, ConditionalLayerNorm):
        _draw(module.weight, deviation)
        _draw(module.bias, deviation)
        nn.init.ones_(module.weight.bias)
    elif isinstance(module, OffsetNetwork):
        for layer in module:
            if isinstance(layer, nn.Linear):
                _draw(layer, deviation)
    elif isinstance(module, PatchRecovery):
        nn.init.normal_(module.projection.weight, std=0.1 * module.projection.in_channels**-0.5)
        assert module.projection.bias is not None
        nn.init.zeros_(module.projection.bias)
        nn.init.dirac_(module.mixup.weight)
        with torch.no_grad():
            module.mixup.weight.add_(deviation * torch.randn_like(module.mixup.weight))
