from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pelagos.models.context import Context, Signature
from pelagos.models.networks.unet import UNetConfig
from tests.models.advection import SIGNATURE, TORUS, error_against_persistence
from tests.models.contracts import NetworkContract

SMALL: dict[str, Any] = {"dims": (16, 32), "depth": 1, "kernel": 5}


class TestUNet(NetworkContract):
    sizes = ((16, 16), (13, 22), (1, 3))
    checkpointing = True
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        return UNetConfig(**SMALL, **options).build(signature)


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return UNetConfig(**(SMALL | options)).build(SIGNATURE)


def test_training_on_advection_beats_persistence() -> None:
    assert error_against_persistence(network(), steps=40, learning_rate=5e-3) < 0.5


@pytest.mark.parametrize("shift", [(4, 8), (12, 4)])
def test_shifts_by_the_coarsest_cells_move_forecasts_along_on_a_torus(shift: tuple[int, int]) -> None:
    net = network(dims=(8, 16, 16)).double()
    x_BCHW, time_B = torch.randn(1, 1, 16, 12, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    shifted = net(x_BCHW.roll(shift, (-2, -1)), time_B, TORUS)
    assert_close(shifted, net(x_BCHW, time_B, TORUS).roll(shift, (-2, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("wraps", [True, False])
def test_opposite_edges_meet_only_where_the_axis_wraps(wraps: bool) -> None:
    net = network(dims=(16,)).double()
    x_BCHW = torch.randn(1, 1, 40, 8, dtype=torch.float64, requires_grad=True)
    y_BCHW = net(x_BCHW, torch.ones(1, dtype=torch.float64), Context(periodic=(wraps, False)))
    y_BCHW[..., 0, :].sum().backward()
    assert x_BCHW.grad is not None
    assert bool(x_BCHW.grad[..., -1, :].abs().any()) is wraps


def test_without_residual_the_network_gives_the_state_itself() -> None:
    x_BCHW, time_B = torch.randn(1, 1, 16, 16), torch.full((1,), 9.0)
    change = network()(x_BCHW, time_B) - x_BCHW
    assert_close(network(residual=False)(x_BCHW, time_B), change, rtol=0, atol=1e-6)
