"""Weights are converted once a step, with the same gradients."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from pelagos.pipeline.engine.weight_conversion import converted_once


class Conversions(TorchDispatchMode):
    """Counts conversions of types."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and count it if it converts."""
        self.found += "_to_copy" in func.name()
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_micro_batches_share_converted_weights(checkpointing: bool) -> None:
    def gradients(*, once: bool) -> tuple[int, list[torch.Tensor]]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        with Conversions() as conversions, converted_once() if once else nullcontext():
            for _ in range(3):
                x = torch.randn(4, 8)
                with torch.autocast("cpu", torch.bfloat16):
                    y = checkpoint(network, x, use_reentrant=False) if checkpointing else network(x)
                assert not torch.is_autocast_enabled("cpu")
                y.float().square().mean().backward()
        return conversions.found, [
            parameter.grad for parameter in network.parameters() if parameter.grad is not None
        ]

    separate, expected = gradients(once=False)
    shared, found = gradients(once=True)
    recomputed = 3 * 4 if checkpointing else 0  # which had converted the weights once more
    assert separate - shared == 2 * 4 + recomputed
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_next_step_sees_changed_weights() -> None:
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    for _ in range(2):
        with converted_once(), torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert torch.equal(
            out, nn.functional.linear(*(part.bfloat16() for part in (x, layer.weight, layer.bias)))
        )
        with torch.no_grad():
            layer.weight += 1
