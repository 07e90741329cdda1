"""Layers that compute in another precision than was asked for end a run at its first step."""

import pytest
import torch
from torch import nn

from pelagos.pipeline.engine.precision_check import PrecisionCheck, PrecisionError


class SwitchedOff(nn.Module):
    """A network that is called with autocast switched off, as DeepSpeed does at ZeRO 3."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x_BD: torch.Tensor) -> torch.Tensor:
        """(B, 4) to (B, 4)."""
        with torch.autocast("cpu", enabled=False):
            out: torch.Tensor = self.layer(x_BD)
            return out


def step(network: nn.Module, precision: torch.dtype, asked: torch.dtype) -> None:
    check = PrecisionCheck(network, asked, "cpu")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        network(torch.randn(2, 4))
    check.conclude()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_precision_that_was_asked_for_passes(precision: torch.dtype) -> None:
    step(nn.Linear(4, 4), precision, precision)


def test_autocast_that_is_switched_off_on_the_way_is_found() -> None:
    with pytest.raises(
        PrecisionError, match="asks for bfloat16, but the network's layers computed in float32"
    ):
        step(SwitchedOff(), torch.bfloat16, torch.bfloat16)


def test_autocast_that_nobody_asked_for_is_found() -> None:
    with pytest.raises(PrecisionError, match="asks for float32"):
        step(nn.Linear(4, 4), torch.bfloat16, torch.float32)


def test_layers_are_watched_for_one_pass_alone() -> None:
    network = SwitchedOff()
    check = PrecisionCheck(network, torch.float32, "cpu")
    check.conclude()
    assert not network.layer._forward_hooks
