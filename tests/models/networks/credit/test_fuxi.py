from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.context import Signature
from pelagos.models.networks.credit.earth_padding import PaddingConfig
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from tests.models.advection import SIGNATURE, error_against_persistence
from tests.models.contracts import NetworkContract

SMALL: dict[str, Any] = {"dim": 32, "depth": 2, "num_heads": 4, "window": 4, "patch": (2, 2), "groups": 4}


class TestFuXi(NetworkContract):
    sizes = ((16, 16), (13, 22))
    checkpointing = True
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        # The contract compares two calls in training, between which spectral norms change.
        return FuXiConfig(**SMALL, spectral_norm=False, **options).build(signature)


class TestPublishedFuXi(NetworkContract):
    signature = Signature(NetworkContract.signature.inputs, NetworkContract.signature.outputs, shape=(16, 16))
    sizes = ((16, 16), (16, 24))
    refused = ((18, 16), (16, 18))
    checkpointing = True
    conditioned = False
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        return FuXiConfig(**SMALL, form="credit", spectral_norm=False, **options).build(signature)


def own_attention(net: PaddedNetwork) -> Any:
    """The attention of the first block, whose layers are spectrally normalised at runtime."""
    return net.body.get_submodule("u_transformer.layer.blocks.0.attn")


def network(**options: Any) -> PaddedNetwork:
    torch.manual_seed(0)
    return FuXiConfig(**(SMALL | options)).build(SIGNATURE)


def test_training_on_advection_beats_persistence() -> None:
    assert error_against_persistence(network(), steps=40, learning_rate=1e-2) < 0.5


def test_own_form_normalises_queries_keys_and_values_too() -> None:
    """timm reads that weight without calling its layer, so miles-credit's hook never divides it."""
    attention = own_attention(network())
    for _ in range(100):
        attention.qkv.iterate()
    largest = torch.linalg.matrix_norm(attention.qkv.weight, 2)
    assert_close(largest, torch.ones_like(largest), rtol=0, atol=1e-3)


def test_credit_form_leaves_queries_keys_and_values_as_they_are() -> None:
    attention = own_attention(network(form="credit"))
    assert torch.equal(attention.qkv.weight, attention.qkv.weight_orig)
    assert not torch.equal(attention.proj.weight, attention.proj.weight_orig)


def test_two_frames_are_joined_by_the_patch_embedding() -> None:
    torch.manual_seed(0)
    signature = Signature(("u@1", "u@2", "v@1", "v@2"), ("u", "v"))
    net = FuXiConfig(**SMALL, form="credit", frames=2).build(signature).eval()
    x_BCHW = torch.randn(1, 4, 8, 8)
    conv = net.body.get_submodule("cube_embedding.proj")
    found: list[tuple[Tensor, Tensor]] = []
    conv.register_forward_hook(lambda module, inputs, output: found.append((inputs[0], output)))
    assert net(x_BCHW, torch.zeros(1)).shape == (1, 2, 8, 8)
    assert_close(found[0][0], x_BCHW.reshape(1, 2, 2, 8, 8), rtol=0, atol=0)
    assert found[0][1].shape[2] == 1


def test_padding_over_the_poles_is_taken_off_again() -> None:
    net = network(form="credit", padding=PaddingConfig(mode="earth", lat=(4, 0), lon=2)).eval()
    x_BCHW = torch.randn(1, 1, 16, 24)
    expected = net.body(net.padding.pad(x_BCHW))[..., 4:, 2:26]
    assert_close(net(x_BCHW, torch.zeros(1)), expected, rtol=0, atol=0)


def test_inputs_that_are_not_a_whole_number_of_variables_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 inputs are not a whole number of variables with 2 frames each"):
        FuXiConfig(**SMALL, form="credit", frames=2).build(Signature(("u@1", "u@2", "v@1"), ("u",)))


def test_an_odd_number_of_patches_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"18 rows with padding are 9 patches of 2, .*: e.g. 20 rows"):
        network(form="credit")(torch.zeros(1, 1, 18, 16), torch.zeros(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 2}, "a call in the form pelagos has one frame"),
        ({"groups": 5}, "dim 32 is not a multiple of groups 5"),
        ({"num_heads": 3}, "dim 32 is not a multiple of num_heads 3"),
    ],
)
def test_configurations_that_cannot_work_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FuXiConfig(**(SMALL | options))
