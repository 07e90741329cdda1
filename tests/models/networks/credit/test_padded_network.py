"""Padding, cropping and interpolation around a body, and what it predicts."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pelagos.models.context import Context, Signature, Sphere
from pelagos.models.layers.conditioning import condition_names
from pelagos.models.networks.credit.earth_padding import GridPadding
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from pelagos.models.networks.credit.spectral_norm import SpectralNorm, add_spectral_norms
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.preprocessing.errors import ConfigError
from tests.models.contracts import NetworkContract

SIGNATURE = Signature(("a", "b"), ("b", "c"))
TIMES_B = torch.tensor([0.5, 1.0])


class Recording(nn.Module):
    """Gives its first two channels on, and remembers what it was given."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.seen = x_BCHW
        return x_BCHW[:, :2]


def fields() -> Tensor:
    return torch.randn(2, 2, 6, 8, generator=torch.Generator().manual_seed(0))


def test_the_next_state_is_the_bodys_output_without_the_padding() -> None:
    body = Recording()
    net = PaddedNetwork(SIGNATURE, body, GridPadding("boundary", (1, 2), (3, 0)), predicts_change=False)
    assert net.one_step
    assert_close(net(fields(), TIMES_B), fields(), rtol=0, atol=0)
    assert body.seen.shape == (2, 2, 9, 11)


def test_a_change_is_added_to_the_input_of_the_same_variable() -> None:
    body = Recording()
    signature = Signature(("a", "b"), ("b", "c"), ("viscosity",))
    net = PaddedNetwork(signature, body, GridPadding(), predicts_change=True)
    assert not net.one_step
    y_BCHW = net(fields(), TIMES_B)
    assert body.seen.shape[1] == 2 + len(condition_names(signature.scalars))
    assert_close(y_BCHW, fields() + torch.stack([fields()[:, 1], torch.zeros(2, 6, 8)], 1), rtol=0, atol=0)
    assert_close(body.seen[:, 2], TIMES_B[:, None, None].expand(2, 6, 8), rtol=0, atol=0)


def test_periodic_axes_of_the_call_are_wrapped() -> None:
    body = Recording()
    net = PaddedNetwork(SIGNATURE, body, GridPadding("boundary", (1, 0), (1, 0)), predicts_change=False)
    net(fields(), TIMES_B, Context(periodic=(False, True)))
    assert_close(body.seen[..., 1:, 0], fields()[..., -1], rtol=0, atol=0)
    assert float(body.seen[..., 0, :].abs().max()) == 0


@pytest.mark.parametrize("interpolate", [False, True])
def test_outputs_of_another_size_are_interpolated_where_asked_for(interpolate: bool) -> None:
    net = PaddedNetwork(
        SIGNATURE,
        nn.AvgPool2d(2),
        GridPadding(),
        scale=(2, 2),
        predicts_change=False,
        interpolate=interpolate,
    )
    constant = torch.full((2, 2, 6, 8), 3.0)
    assert_close(
        net(constant, TIMES_B), constant if interpolate else constant[..., :3, :4], rtol=0, atol=1e-6
    )


def test_scalars_that_would_have_no_effect_are_an_error() -> None:
    signature = Signature(("a",), ("a",), ("viscosity",))
    with pytest.raises(ConfigError, match="viscosity would have no effect in the form credit"):
        PaddedNetwork(signature, Recording(), GridPadding(), predicts_change=False)


@pytest.mark.parametrize("training", [False, True])
def test_spectral_norms_are_updated_by_calls_in_training_alone(training: bool) -> None:
    body = nn.Conv2d(2, 2, 3, padding=1)
    add_spectral_norms(body)
    assert isinstance(body, SpectralNorm)
    net = PaddedNetwork(SIGNATURE, body, GridPadding(), predicts_change=False).train(training)
    with torch.no_grad():
        body.weight_orig.copy_(torch.randn_like(body.weight_orig))
    before = body.weight_u.clone()
    net(fields(), TIMES_B)
    assert torch.equal(body.weight_u, before) is not training


def test_vectors_change_their_sign_beyond_the_poles_whatever_the_order_of_the_call() -> None:
    body = Recording()
    signature = Signature(("a", "u"), ("a", "u"), ("viscosity",))
    net = PaddedNetwork(signature, body, GridPadding("sphere", (1, 0)), predicts_change=True)
    latitude, longitude = tuple(range(75, -76, -30)), tuple(range(0, 360, 45))
    sphere = Sphere(latitude, longitude, signs=(-1, 1), whole=True)
    net(fields(), TIMES_B, Context(inputs=(1, 0), outputs=(1, 0), sphere=sphere))
    across = fields()[:, :, 0].roll(4, -1)
    assert_close(body.seen[:, 1, 0], -across[:, 0], rtol=0, atol=0)
    assert_close(body.seen[:, 0, 0], across[:, 1], rtol=0, atol=0)
    assert_close(body.seen[:, 2, 0], body.seen[:, 2, 1], rtol=0, atol=0)
    with pytest.raises(ConfigError, match="needs latitudes and longitudes"):
        net(fields(), TIMES_B)


WXFORMER = WXFormerConfig(
    dims=(8, 16, 32, 64),
    depths=(1, 0, 0, 0),
    head_dim=8,
    local_window=2,
    global_window=2,
    kernels=((2, 4), (2, 4), (2, 4), (2, 4)),
)
FUXI = FuXiConfig(dim=16, depth=1, num_heads=2, window=2, patch=(2, 4), groups=2)
OTHERS: dict[str, WXFormerConfig | FuXiConfig] = {
    "wxformer": WXFORMER,
    "transposed": WXFORMER.model_copy(update={"decoder": "transposed"}),
    "patches": WXFORMER.model_copy(update={"patch": (2, 2)}),
    "fuxi": FUXI,
}


@pytest.mark.parametrize("name", OTHERS)
def test_norms_of_weights_stay_what_they_were_when_variables_are_added(name: str) -> None:
    class Normalised(NetworkContract):
        def build(self, signature: Signature, **options: Any) -> nn.Module:
            return OTHERS[name].build(signature)

    Normalised().test_new_variables_leave_forecasts_of_known_ones_alone()
    Normalised().test_with_new_variables_it_learns_from_the_first_step()


def test_frames_that_are_folded_into_channels_keep_their_variables() -> None:
    class Frames(NetworkContract):
        signature = Signature(("a", "b"), ("a", "b"), shape=(16, 16))
        fixed_variables = "fuxi of 2 frames has weights of several inputs at once"

        def build(self, signature: Signature, **options: Any) -> nn.Module:
            return FUXI.model_copy(update={"form": "credit", "frames": 2}).build(signature)

        def other_signature(self) -> Signature:
            return replace(self.signature, inputs=("a", "b", "c", "d"))

    Frames().test_new_variables_leave_forecasts_of_known_ones_alone()
