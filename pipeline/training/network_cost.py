"""Network cost: the parameters of a network, and the operations that it takes for a sample."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pelagos.models.context import Signature
from pelagos.models.layers.truncated_transform import fast_transforms_only
from pelagos.pipeline.runs.model_folder import context_of
from pelagos.preprocessing.layout import Layout


def _attention_flops(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of two matrix products, (..., M, d) (..., d, N) and (..., M, N) (..., N, e)."""
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _product_flops(_to: Sequence[int], a: Sequence[int], b: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of the matrix product (M, N) (N, O), which is added to a matrix."""
    return 2 * prod(a) * b[-1]


UNKNOWN = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten.addmm_: _product_flops,
}
"""Operators that networks use on the CPU and PyTorch's counter does not know."""


class NetworkCost(NamedTuple):
    """What `network_cost` counts.

    Attributes:
        parameters: the number of trained elements.
        flops: by dataset, operations of a forward pass for each of its samples: those of matrix products and
            convolutions, not of Fourier transforms or element-wise functions.
    """

    parameters: int
    flops: dict[str, float]


def network_cost(
    network: nn.Module, signature: Signature, layouts: Iterable[Layout], samples: int, members: int = 1
) -> NetworkCost:
    """The cost of a network on the grids of some datasets; draws no random numbers.

    Args:
        network: the network, which is called on real tensors.
        signature: the network's.
        layouts: one for each dataset.
        samples: the size of a micro-batch.
        members: forecasts of each sample.

    Raises:
        PelagosError: the network cannot take one of the grids.
    """
    training, flops = network.training, {}
    for layout in layouts:
        one, two = (_operations(network, signature, layout, number) for number in (1, 2))
        # Twice the batch is not twice the work: what samples share, such as position biases, is computed once.
        flops[layout.dataset] = members * (two - one) + (2 * one - two) / samples
    network.train(training)
    return NetworkCost(sum(parameter.numel() for parameter in network.parameters()), flops)


def _operations(network: nn.Module, signature: Signature, layout: Layout, samples: int) -> int:
    """Operations of one call with this many samples."""
    # One real call: counting on shapes alone (FakeTensor) leaves fake tensors in the tables that networks cache.
    network.eval()  # drops what earlier calls have cached, so that making it is counted
    device = next(network.parameters()).device
    inputs = torch.zeros(samples, len(layout.channels), *layout.grid.shape, device=device)
    lead_time = torch.ones(samples, device=device)
    context = context_of(
        signature, layout, torch.ones(samples, len(layout.scalars), device=device), lead_time
    )
    counting = FlopCounterMode(display=False, custom_mapping=UNKNOWN)
    # A CPU's transforms may be matrix products, which would count.
    with fast_transforms_only(), counting as counter, torch.no_grad():
        network(inputs, lead_time, context)
    return int(counter.get_total_flops())
