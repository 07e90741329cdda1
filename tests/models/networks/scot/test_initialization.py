"""Distributions of initial weights, and what is not drawn."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.layers.conditioning import ConditionalLayerNorm
from pelagos.models.networks.scot.attention import Tiling, WindowAttention
from pelagos.models.networks.scot.initialization import InitialWeights, initialize
from pelagos.models.networks.scot.patches import PatchRecovery


def network() -> nn.ModuleDict:
    """One layer of each kind, large enough for its statistics to show."""
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "linear": nn.Linear(400, 100),
            "convolution": nn.Conv2d(16, 40, 5),
            "norm": ConditionalLayerNorm(2000, 1),
            "attention": WindowAttention(8, 2, Tiling(4), bias_dim=500),
            "recovery": PatchRecovery(100, 3, 10),
        }
    )


def deviation(weight: Tensor) -> float:
    return float(weight.std())


def drawn(style: InitialWeights) -> dict[str, Tensor]:
    net = network()
    initialize(net, style, 0.02)
    return net.state_dict()


def test_poseidon_draws_all_weights_with_one_deviation_and_gains_around_zero() -> None:
    weights = drawn("poseidon")
    for name in ("linear.weight", "convolution.weight", "norm.weight.weight", "norm.bias.weight"):
        assert deviation(weights[name]) == pytest.approx(0.02, rel=0.1), name
    assert float(weights["norm.weight.bias"].abs().max()) == 0


def test_poseidon_leaves_the_transposed_convolution_to_pytorch() -> None:
    net = network()
    before = net.state_dict()["recovery.projection.weight"].clone()
    initialize(net, "poseidon", 0.02)
    assert_close(net.state_dict()["recovery.projection.weight"], before, rtol=0, atol=0)


def test_pelagos_keeps_the_variance_of_what_passes_and_starts_with_plain_norms() -> None:
    weights = drawn("pelagos")
    assert deviation(weights["linear.weight"]) == pytest.approx(400**-0.5, rel=0.05)
    assert deviation(weights["convolution.weight"]) == pytest.approx((16 * 25) ** -0.5, rel=0.05)
    assert_close(weights["norm.weight.bias"], torch.ones(2000), rtol=0, atol=0)
    assert deviation(weights["norm.weight.weight"]) == pytest.approx(0.02, rel=0.1)
    assert deviation(weights["recovery.projection.weight"]) == pytest.approx(0.01, rel=0.05)


def test_pelagos_smooths_next_to_nothing_at_first() -> None:
    mixup = drawn("pelagos")["recovery.mixup.weight"].clone()
    for channel in range(3):
        mixup[channel, channel, 2, 2] -= 1
    assert float(mixup.abs().max()) < 5 * 0.02
    assert float(mixup.std()) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("style", ["pelagos", "poseidon"])
def test_biases_are_zero_and_logit_scales_stay(style: InitialWeights) -> None:
    weights = drawn(style)
    for name in ("linear.bias", "convolution.bias", "norm.bias.bias", "attention.query.bias"):
        assert float(weights[name].abs().max()) == 0, name
    expected = torch.full((2, 1, 1), math.log(10.0))
    assert_close(weights["attention.logit_scale"], expected, rtol=0, atol=0)


@pytest.mark.parametrize("style", ["pelagos", "poseidon"])
def test_position_biases_start_small(style: InitialWeights) -> None:
    weights = drawn(style)
    for layer in (0, 2):
        name = f"attention.continuous_position_bias_mlp.{layer}.weight"
        assert deviation(weights[name]) == pytest.approx(0.02, rel=0.1)
