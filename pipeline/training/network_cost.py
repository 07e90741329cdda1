"""Outline: what a network takes for one sample, counted in a single call."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pelagos.models.context import Signature
from pelagos.pipeline.runs.model_folder import context
from pelagos.preprocessing.layout import Layout


def _attention_flops(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
    """Of two products, (..., M, d) (..., d, N) and (..., M, N) (..., N, e)."""
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _product_flops(_to: Sequence[int], a: Sequence[int], b: Sequence[int], *_: Any, **__: Any) -> int:
    """Of (M, N) (N, O), added to what is there."""
    return 2 * prod(a) * b[-1]


UNKNOWN = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten.addmm_: _product_flops,
}
"""What networks do and PyTorch's counter does not know."""


class Outline(NamedTuple):
    """What `outline` counts.

    Attributes:
        parameters: trained numbers.
        flops: operations of one call for each of its samples, by dataset: those of products of matrices and of
            convolutions; Fourier transforms and element-wise ones do not count.
    """

    parameters: int
    flops: dict[str, float]


def outline(network: nn.Module, signature: Signature, layouts: Iterable[Layout], samples: int) -> Outline:
    """Of a network on the grids of some datasets; it draws no random numbers and changes nothing.

    Args:
        network: that is called.
        signature: of the network.
        layouts: of the datasets.
        samples: of a call.

    Raises:
        PelagosError: the network cannot take one of the grids.
    """
    training, flops = network.training, {}
    for layout in layouts:
        one, two = (_operations(network, signature, layout, number) for number in (1, 2))
        # What all samples share, such as position biases, is done once.
        flops[layout.dataset] = two - one + (2 * one - two) / samples
    network.train(training)
    return Outline(sum(parameter.numel() for parameter in network.parameters()), flops)


def _operations(network: nn.Module, signature: Signature, layout: Layout, samples: int) -> int:
    """Of one call."""
    network.eval()  # forgets what earlier calls have left to reuse
    device = next(network.parameters()).device
    inputs = torch.zeros(samples, len(layout.inputs), *layout.grid.shape, device=device)
    lead_time = torch.ones(samples, device=device)
    told = context(signature, layout, torch.ones(samples, len(layout.scalars), device=device), lead_time)
    with FlopCounterMode(display=False, custom_mapping=UNKNOWN) as counter, torch.no_grad():
        network(inputs, lead_time, told)
    return int(counter.get_total_flops())
