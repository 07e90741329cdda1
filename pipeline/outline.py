"""Outline: what a network takes for one sample, counted in a single call."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pelagos.models.context import Signature
from pelagos.pipeline.model import context
from pelagos.preprocessing.batch import Layout


def _attention_flops(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
    """Of two products, (..., M, d) (..., d, N) and (..., M, N) (..., N, e)."""
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


UNKNOWN = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
"""What networks do without gradients and PyTorch's counter does not know."""


class Outline(NamedTuple):
    """What `outline` counts.

    Attributes:
        parameters: trained numbers.
        flops: operations of one call for one sample, by dataset: those of products of matrices and of
            convolutions; Fourier transforms and element-wise ones do not count.
    """

    parameters: int
    flops: dict[str, float]


def outline(network: nn.Module, signature: Signature, layouts: Iterable[Layout]) -> Outline:
    """Of a network on the grids of some datasets; it draws no random numbers and changes nothing.

    Raises:
        PelagosError: the network cannot take one of the grids.
    """
    training, device = network.training, next(network.parameters()).device
    network.eval()
    flops = {}
    for layout in layouts:
        inputs = torch.zeros(1, len(layout.inputs), *layout.grid.shape, device=device)
        lead_time = torch.ones(1, device=device)
        told = context(signature, layout, torch.ones(1, len(layout.scalars), device=device), lead_time)
        with FlopCounterMode(display=False, custom_mapping=UNKNOWN) as counter, torch.no_grad():
            network(inputs, lead_time, told)
        flops[layout.dataset] = float(counter.get_total_flops())
    network.train(training)
    return Outline(sum(parameter.numel() for parameter in network.parameters()), flops)
