"""Forecasts on the sphere turn with their fields, have no waves beyond the network's, and mean the same on any grid."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pelagos.models.context import Context, Signature, Sphere
from pelagos.models.layers.spherical_transform import SphericalTransform, gaussian_grid
from pelagos.models.networks.fourier.spherical_fno import SphericalFNOConfig
from tests.models.contracts import NetworkContract

SIGNATURE = Signature(inputs=("height",), outputs=("height",))


class TestSphericalFNO(NetworkContract):
    sizes = ((16, 16), (13, 22), (3, 5))
    any_variables = True
    checkpointing = True
    identity_at_zero = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        return SphericalFNOConfig(width=8, degrees=5, num_layers=2, **options).build(signature)


def network() -> nn.Module:
    torch.manual_seed(0)
    return SphericalFNOConfig(width=8, degrees=6, num_layers=2).build(SIGNATURE).double()


def on(rows: int) -> Context:
    latitude, longitude = gaussian_grid(rows)
    return Context(periodic=(False, True), sphere=Sphere(latitude, longitude, (1,), whole=True))


def test_turning_fields_about_the_axis_turns_forecasts() -> None:
    net, time, x = network(), torch.ones(1).double(), torch.randn(1, 1, 12, 24).double()
    # Four columns of 24 are three of the inner grid's 18: other turns are forecast as well, to its aliasing.
    turned = net(x.roll(4, -1), time, on(12))
    assert_close(turned, net(x, time, on(12)).roll(4, -1), rtol=0, atol=1e-12)


def test_forecasts_are_the_same_on_a_finer_grid() -> None:
    net, time = network(), torch.ones(1).double()
    coarse, fine = (SphericalTransform(*gaussian_grid(rows), 6) for rows in (9, 20))
    state = torch.randn(1, 1, 21, 2).double()
    state[:, :, :6, 1] = 0  # sines of order 0
    changes = [one.forward(net(one.backward(state), time, on(len(one.latitude)))) for one in (coarse, fine)]
    assert (changes[0] - state).abs().max() > 1e-3
    assert_close(changes[0], changes[1], rtol=0, atol=1e-10)


def test_a_region_is_refused() -> None:
    latitude = tuple(np.linspace(10, 40, 8).tolist())
    region = Context(sphere=Sphere(latitude, latitude, (1,), whole=False))
    with pytest.raises(ValueError, match="need the whole sphere"):
        network()(torch.zeros(1, 1, 8, 8).double(), torch.ones(1).double(), region)
