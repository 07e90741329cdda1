"""Weight conversion: how often weights become bf16 in a step, and weights that are bf16 beside a float32 master."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pelagos.models.layers.precision import Linear
from pelagos.pipeline.engine.parameter_packing import ParameterPacking


@contextmanager
def converted_once() -> Iterator[None]:
    """The context in which autocast converts each weight once, in all forward passes together, instead of in each.

    Weights must not change in it. Autocast itself is neither on nor off in it, so that backward passes are as without.
    """
    # Autocast forgets what it has converted when its outermost context ends: this is one around those of the passes.
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def matrices(network: nn.Module) -> Iterator[nn.Parameter]:
    """The trained weights that layers multiply in bf16 alone: those of `precision.Linear`, and their biases.

    Others are also read where float32 is needed, such as those of norms, position biases and Fourier transforms.
    """
    for layer in network.modules():
        # A weight that a norm or an adapter computes is no parameter of the layer.
        if isinstance(layer, Linear) and layer._parameters.get("weight") is not None:
            yield from (part for part in layer.parameters(recurse=False) if part.requires_grad)


class LoweredWeights:
    """Matrices in bf16, which the network computes with; packed parameters are the master, in float32.

    Their gradients are added up in float32.
    """

    def __init__(self, network: nn.Module, packing: ParameterPacking) -> None:
        """Make the matrices of a network slices of bf16 copies of the packed parameters."""
        lowered = set(matrices(network))
        self._masters = [flat.data for flat in packing.flats]
        self._copies = [master.to(torch.bfloat16) for master in self._masters]
        for parameters, slices in zip(packing.parameters_of, packing.slices(self._copies), strict=True):
            for parameter, part in zip(parameters, slices, strict=True):
                if parameter in lowered:
                    parameter.data = part
                    parameter.grad_dtype = torch.float32

    def refresh(self) -> None:
        """Follow the master."""
        torch._foreach_copy_(self._copies, self._masters)
