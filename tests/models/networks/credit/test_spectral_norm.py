"""Spectral norms are PyTorch's, and a divided weight is never stale."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pelagos.models.networks.credit.crossformer import Pointwise
from pelagos.models.networks.credit.spectral_norm import (
    SpectralNorm,
    add_spectral_norm,
    add_spectral_norms,
    update_spectral_norms,
)

LAYERS: tuple[Callable[[], nn.Module], ...] = (
    lambda: nn.Linear(6, 4),
    lambda: nn.Conv2d(3, 5, 3),
    lambda: nn.ConvTranspose2d(3, 5, 2, stride=2),
    lambda: Pointwise(3, 5),
)


def normalized(make: Callable[[], nn.Module] = LAYERS[1]) -> SpectralNorm:
    torch.manual_seed(0)
    layer = make().double()
    add_spectral_norm(layer)
    assert isinstance(layer, SpectralNorm)
    return layer


def rows(layer: SpectralNorm) -> torch.Tensor:
    weight = layer.weight
    return (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(1)


@pytest.mark.parametrize("make", LAYERS)
def test_weights_are_those_of_torch_in_training_and_evaluation(make: Callable[[], nn.Module]) -> None:
    layer = normalized(make)
    with torch.no_grad():
        layer.weight_u.copy_(torch.nn.functional.normalize(torch.ones_like(layer.weight_u), dim=0))
    reference = nn.utils.spectral_norm(make().double())
    reference.load_state_dict(layer.state_dict())
    shape = (2, 6) if isinstance(layer, nn.Linear) else (2, 3, 5, 3)
    for _ in range(3):
        update_spectral_norms(layer)
        x = torch.randn(shape, dtype=torch.float64)
        assert_close(layer(x), reference(x), rtol=0, atol=1e-14)
    assert_close(layer.state_dict(), reference.state_dict(), rtol=0, atol=1e-14)
    layer.eval()
    reference.eval()
    assert_close(layer(x), reference(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("make", LAYERS)
def test_iteration_makes_the_largest_singular_value_one(make: Callable[[], nn.Module]) -> None:
    layer = normalized(make)
    for _ in range(300):
        update_spectral_norms(layer)
    largest = torch.linalg.matrix_norm(rows(layer), 2)
    assert_close(largest, torch.ones_like(largest), rtol=0, atol=1e-8)


def test_gradient_of_the_weight_counts_the_division() -> None:
    layer = normalized(LAYERS[0])

    def output(weight: torch.Tensor) -> torch.Tensor:
        values = {"weight_orig": weight, "bias": layer.get_parameter("bias")}
        inputs = torch.ones(2, 6, dtype=torch.float64)
        out: torch.Tensor = torch.func.functional_call(layer, values, inputs)
        return out

    assert torch.autograd.gradcheck(output, layer.weight_orig)


def test_weight_is_cached_while_nothing_changes_and_no_gradient_is_asked_for() -> None:
    layer = normalized().eval()
    with torch.no_grad():
        assert layer.weight is layer.weight
    assert layer.weight.requires_grad


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.weight_orig.mul_(torch.arange(1.0, 6.0)[:, None, None, None]),
        lambda layer: layer.load_state_dict({k: v * 3 for k, v in layer.state_dict().items()}),
        lambda layer: layer.float(),
        lambda layer: (layer.train(), layer.weight_u.data.mul_(2), layer.eval()),
        lambda layer: torch.optim.SGD([layer.weight_orig], 0.1).step(),
        lambda layer: update_spectral_norms(layer),
    ],
    ids=["in place", "load", "cast", "past the version counter", "optimiser", "iteration"],
)
def test_cached_weight_is_never_stale(change: Callable[[SpectralNorm], object]) -> None:
    layer = normalized().eval()
    layer.weight.square().sum().backward()
    with torch.no_grad():
        layer.weight  # noqa: B018  # fills the cache
        change(layer)
        cached = layer.weight
    assert_close(cached, layer.weight, rtol=0, atol=0)


def test_two_steps_back_propagate_through_their_own_estimates() -> None:
    layer = normalized(LAYERS[0])
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(2):
        update_spectral_norms(layer)
        total = total + layer(torch.ones(1, 6, dtype=torch.float64)).square().sum()
    total.backward()
    assert layer.weight_orig.grad is not None
    assert torch.isfinite(layer.weight_orig.grad).all()


def test_normalized_networks_can_be_copied() -> None:
    layer = normalized()
    x = torch.ones(1, 3, 5, 5, dtype=torch.float64)
    assert_close(copy.deepcopy(layer)(x), layer(x), rtol=0, atol=0)


def test_frozen_layers_use_their_weight_as_it_is() -> None:
    layer: nn.Module = nn.Linear(6, 4)
    weight = layer.get_parameter("weight").detach().clone()
    add_spectral_norm(layer, frozen=True)
    assert isinstance(layer, SpectralNorm)
    before = layer.weight_u.clone()
    update_spectral_norms(layer)
    assert_close(layer.weight, weight, rtol=0, atol=0)
    assert_close(layer.weight_u, before, rtol=0, atol=0)


def test_only_matrices_and_planar_convolutions_are_normalised_and_once() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Conv3d(1, 1, 1), nn.LayerNorm(2), nn.Conv2d(1, 1, 1))
    add_spectral_norms(network)
    names = set(network.state_dict())
    add_spectral_norms(network)
    assert names == set(network.state_dict())
    assert {name for name in names if name.endswith("orig")} == {"0.weight_orig", "3.weight_orig"}
