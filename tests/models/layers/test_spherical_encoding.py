"""Spherical harmonics are orthonormal and scipy's, and codes have neither seam nor pole."""

import math

import numpy as np
import torch
from scipy.special import sph_harm_y

from pelagos.models.layers.spherical_encoding import SphericalEncoding, spherical_harmonics


def test_harmonics_are_those_of_scipy() -> None:
    latitude, longitude = (
        torch.tensor([-1.5, -0.4, 0.0, 0.9, 1.57]).double(),
        torch.tensor([0.0, 1.0, 4.0]).double(),
    )
    found = spherical_harmonics(latitude, longitude, 21)
    colatitude = np.pi / 2 - latitude.numpy()[:, None]
    column = 0
    for degree in range(21):
        for order in range(-degree, degree + 1):
            values = sph_harm_y(degree, abs(order), colatitude, longitude.numpy()) * (-1) ** order
            part = values.imag if order < 0 else values.real
            wanted = part * (math.sqrt(2) if order else 1)
            np.testing.assert_allclose(found[..., column].numpy(), wanted, atol=1e-10)
            column += 1


def test_harmonics_are_orthonormal_to_high_degrees() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(40)
    longitude = torch.arange(80, dtype=torch.float64) * 2 * torch.pi / 80
    values = spherical_harmonics(torch.from_numpy(np.arcsin(nodes)), longitude, 40).flatten(0, 1)
    area = torch.from_numpy(weights).repeat_interleave(80) * 2 * torch.pi / 80
    gram = values.t() @ (values * area[:, None])
    torch.testing.assert_close(gram, torch.eye(1600, dtype=torch.float64), rtol=0, atol=1e-10)


def test_a_code_belongs_to_a_place_however_it_is_written() -> None:
    torch.manual_seed(0)
    encode = SphericalEncoding(6, 8).double()
    here = encode((80.0, 10.0), (-30.0, 350.0))
    # 80 N, 30 W lies beyond the pole from 100 N, 150 E; and 350 E is 10 W.
    torch.testing.assert_close(encode((100.0,), (150.0,))[0, 0], here[0, 0])
    torch.testing.assert_close(encode((10.0,), (-10.0,))[0, 0], here[1, 1])
    around = encode((90.0,), (0.0, 77.0, 200.0))
    torch.testing.assert_close(around[0, 1:], around[0, :1].expand(2, -1))


def test_codes_have_the_size_of_normalised_tokens_and_differ_from_place_to_place() -> None:
    torch.manual_seed(0)
    encode = SphericalEncoding(10, 64)
    code = encode(tuple(np.linspace(-85, 85, 18).tolist()), tuple(np.arange(36) * 10.0))
    assert 0.3 < float(code.detach().std()) < 3
    code.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encode.parameters())
