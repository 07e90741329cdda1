"""Harmonics come back from their fields, on Gaussian latitudes and on others."""

import math

import numpy as np
import pytest
import torch

from pelagos.models.layers.spherical_transform import Angles, SphericalTransform, gaussian_grid, places_of

EVEN = places_of(None, (12, 22))
POLES = (tuple(np.linspace(90, -90, 13).tolist()), EVEN[1])


@pytest.mark.parametrize("places", [gaussian_grid(9), EVEN, POLES], ids=["gaussian", "cells", "with poles"])
def test_coefficients_survive_the_way_there_and_back(places: tuple[Angles, Angles]) -> None:
    transform = SphericalTransform(*places, 6)
    known = torch.randn(2, 3, 21, 2, dtype=torch.float64)
    known[:, :, :6, 1] = 0  # of order 0 there are no sines
    torch.testing.assert_close(transform.forward(transform.backward(known)), known, rtol=0, atol=1e-12)


def test_first_harmonics_are_the_constant_the_axis_and_the_equator() -> None:
    latitude, longitude = gaussian_grid(8)
    y, x = (torch.deg2rad(torch.tensor(part, dtype=torch.float64)) for part in (latitude, longitude))
    constant, axis, equator = torch.zeros(3, 1, 1, 10, 2, dtype=torch.float64)
    constant[..., 0, 0], axis[..., 1, 0], equator[..., 4, 1] = torch.ones(3, dtype=torch.float64)
    found = [
        SphericalTransform(latitude, longitude, 4).backward(one)[0, 0] for one in (constant, axis, equator)
    ]
    torch.testing.assert_close(found[0], torch.ones(8, 16, dtype=torch.float64))
    torch.testing.assert_close(found[1], math.sqrt(3) * y.sin()[:, None].expand(8, 16))
    torch.testing.assert_close(found[2], math.sqrt(3) * y.cos()[:, None] * x.sin())
