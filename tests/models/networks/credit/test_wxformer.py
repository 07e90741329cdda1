from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.testing import assert_close

from pelagos.models.context import Signature
from pelagos.models.networks.credit.earth_padding import GridPadding, PaddingConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from pelagos.models.networks.credit.spectral_norm import add_spectral_norms
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from tests.models.advection import SIGNATURE, error_against_persistence
from tests.models.contracts import NetworkContract

SMALL: dict[str, Any] = {
    "dims": (8, 16, 32, 64),
    "depths": (1, 1, 1, 1),
    "head_dim": 8,
    "local_window": 2,
    "global_window": 2,
    "kernels": ((2, 4), (2, 4), (2, 4), (2, 4)),
}


class TestWXFormer(NetworkContract):
    sizes = ((16, 16), (13, 22))
    checkpointing = True
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        # The contract compares two calls in training, between which spectral norms change; and the compiler
        # takes its time for each block.
        small = SMALL | {"depths": (0, 1, 0, 0)}
        return WXFormerConfig(**small, spectral_norm=False, **options).build(signature)


class TestPublishedWXFormer(NetworkContract):
    signature = Signature(NetworkContract.signature.inputs, NetworkContract.signature.outputs, shape=(32, 32))
    sizes = ((32, 32), (32, 64))
    refused = ((36, 32), (32, 40))
    checkpointing = True
    conditioned = False
    any_variables = True
    # Softmax is blind to a constant; a norm of one group a channel undoes the bias before it.
    without_gradient = frozenset(
        {f"body.layers.1.1.layers.0.{i}.dpb.layers.9.bias" for i in (0, 2)}
        | {f"body.up_block3.b.{i}.bias" for i in (0, 3)}
    )

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        small = SMALL | {"depths": (0, 1, 0, 0), "decoder": "transposed", "form": "credit"}
        return WXFormerConfig(**small, spectral_norm=False, **options).build(signature)


def normalized(signature: Signature = SIGNATURE, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return WXFormerConfig(**SMALL, **options).build(signature)


def test_training_on_advection_beats_persistence() -> None:
    assert error_against_persistence(normalized(), steps=30, learning_rate=1e-2) < 0.5


def test_checkpointing_changes_nothing_under_spectral_norm() -> None:
    """A power iteration within the layers would be made twice where they are run again."""
    results = []
    for checkpointing in (False, True):
        net = normalized(checkpointing=checkpointing).double()
        y_BCHW = net(torch.ones(1, 1, 16, 16, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
        y_BCHW.square().sum().backward()
        results.append((y_BCHW, [p.grad for p in net.parameters()], net.state_dict()))
    assert_close(results[0], results[1], rtol=1e-10, atol=1e-10)


def test_compilation_changes_nothing_under_spectral_norm() -> None:
    def network() -> PaddedNetwork:
        torch.manual_seed(0)
        body = nn.Conv2d(2, 1, 3, padding=1)
        add_spectral_norms(body)
        return PaddedNetwork(SIGNATURE, body, GridPadding(), predicts_change=True).double()

    x_BCHW, time_B = torch.randn(1, 1, 4, 4, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    plain, compiled = network(), network()
    torch.compiler.reset()
    call = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        assert_close(call(x_BCHW, time_B), plain(x_BCHW, time_B), rtol=0, atol=1e-12)
    assert_close(compiled.state_dict(), plain.state_dict(), rtol=0, atol=1e-12)


def test_evaluation_leaves_the_spectral_norms_alone() -> None:
    net = normalized().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net(torch.ones(1, 1, 16, 16), torch.ones(1))
    assert_close(net.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("decoder", ["pixel_shuffle", "transposed"])
@pytest.mark.parametrize("mode", ["earth", "mirror", "boundary"])
@pytest.mark.parametrize("size", [(30, 32), (29, 40)])
def test_every_padding_and_decoder_serves_grids_of_any_size(
    decoder: str, mode: str, size: tuple[int, int]
) -> None:
    padding = PaddingConfig(mode=mode, lat=1, lon=(2, 0))
    config = WXFormerConfig(**SMALL, decoder=decoder, padding=padding)
    x_BCHW = torch.randn(1, 1, *size)
    assert config.build(SIGNATURE)(x_BCHW, torch.ones(1)).shape == x_BCHW.shape


def test_credit_form_is_one_step_without_a_residual() -> None:
    config = WXFormerConfig(**SMALL, form="credit", padding=PaddingConfig(mode="earth", lat=8, lon=16))
    net = config.build(SIGNATURE).eval()
    x_BCHW = torch.randn(1, 1, 16, 32)
    with torch.no_grad():
        assert_close(net(x_BCHW, torch.ones(1)), net(x_BCHW, torch.zeros(1)), rtol=0, atol=0)
        assert_close(net(x_BCHW, torch.ones(1)), net.body(net.padding.pad(x_BCHW))[..., 8:24, 16:48])


def test_credit_form_interpolates_what_the_decoder_misses() -> None:
    config = WXFormerConfig(**SMALL, form="credit", padding=PaddingConfig(mode="mirror", lat=8))
    net = config.build(SIGNATURE).eval()
    assert net(torch.randn(1, 1, 17, 32), torch.zeros(1)).shape == (1, 1, 17, 32)


def test_coarse_first_strides_need_padding_of_whole_output_cells() -> None:
    options = {**SMALL, "strides": (4, 2, 2, 2), "kernels": ((4, 8), (2,), (2,), (2,)), "form": "credit"}
    even = WXFormerConfig(**options, padding=PaddingConfig(mode="earth", lat=16)).build(SIGNATURE)
    assert even(torch.randn(1, 1, 32, 64), torch.zeros(1)).shape == (1, 1, 32, 64)
    odd = WXFormerConfig(**options, padding=PaddingConfig(mode="earth", lat=(15, 17))).build(SIGNATURE)
    with pytest.raises(ValueError, match=r"\(15, 17\) rows .* must be multiples of \(2, 2\)"):
        odd(torch.randn(1, 1, 32, 64), torch.zeros(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (2, 2, 4, 2)}, r"strides are \(2, 2, 4, 2\)"),
        ({"strides": (1, 2, 2, 2)}, "first stride of 1 coarsen the grid by an odd number"),
        ({"kernels": ((2,), (2,))}, "given for 2 stages, but there are 4"),
        ({"windows": 3}, "windows"),
    ],
)
def test_configurations_that_cannot_work_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WXFormerConfig(**(SMALL | options))


def test_scalars_that_would_not_be_heard_are_errors() -> None:
    with pytest.raises(ValueError, match="the scalars viscosity would have no effect in the form credit"):
        WXFormerConfig(**SMALL, form="credit").build(Signature(("u",), ("u",), ("viscosity",)))


def test_kernels_smaller_than_the_stride_are_errors() -> None:
    with pytest.raises(ValueError, match="a kernel of 2 cells would skip cells at stride 4"):
        WXFormerConfig(**(SMALL | {"strides": (4, 2, 2, 2)})).build(SIGNATURE)
