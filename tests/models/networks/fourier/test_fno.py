import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.context import Context, Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from tests.models.advection import SIGNATURE, TORUS, error_against_persistence
from tests.models.contracts import NetworkContract


class TestFNO(NetworkContract):
    sizes = ((16, 16), (13, 22), (3, 5))
    any_variables = True
    checkpointing = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        return FNOConfig(width=8, modes=(4, 4), num_layers=2, **options).build(signature)


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return FNOConfig(width=16, modes=(5, 5), num_layers=2, **options).build(SIGNATURE)


def smooth(size: int) -> Tensor:
    x = torch.arange(size, dtype=torch.float64) * 2 * math.pi / size
    return (0.3 * x.cos()[:, None] + 0.2 * (2 * x + x[:, None]).sin())[None, None]


def test_training_on_advection_beats_persistence() -> None:
    assert error_against_persistence(network(), steps=40, learning_rate=1e-2) < 0.5


def test_shifted_fields_on_a_torus_give_shifted_forecasts() -> None:
    net, time_B = network().double(), torch.ones(1, dtype=torch.float64)
    x_BCHW = torch.randn(1, 1, 12, 14, dtype=torch.float64)
    shifted = net(x_BCHW.roll((5, 3), (-2, -1)), time_B, TORUS)
    assert_close(shifted, net(x_BCHW, time_B, TORUS).roll((5, 3), (-2, -1)), rtol=0, atol=1e-12)


def test_forecasts_on_a_torus_are_the_same_on_a_finer_grid() -> None:
    net, time_B = network().double(), torch.ones(1, dtype=torch.float64)
    coarse, fine = (net(smooth(size), time_B, TORUS) - smooth(size) for size in (32, 96))
    assert (fine[..., ::3, ::3] - coarse).abs().max() < 1e-3 * coarse.abs().max()


def test_edges_that_do_not_wrap_are_kept_apart() -> None:
    net, time_B = network().double(), torch.ones(1, dtype=torch.float64)
    x_BCHW = torch.randn(1, 1, 12, 12, dtype=torch.float64)
    walls = net(x_BCHW, time_B, Context(periodic=(True, False)))
    assert (walls - net(x_BCHW, time_B, TORUS)).abs().max() > 1e-3
    assert_close(
        walls.roll(5, -2),
        net(x_BCHW.roll(5, -2), time_B, Context(periodic=(True, False))),
        rtol=0,
        atol=1e-12,
    )


def test_without_residual_the_network_gives_the_state_itself() -> None:
    x_BCHW, time_B = smooth(16).float(), torch.full((1,), 9.0)
    change = network()(x_BCHW, time_B) - x_BCHW
    assert_close(network(residual=False)(x_BCHW, time_B), change, rtol=0, atol=1e-6)
