"""Harmonics on a Gaussian grid: derivatives against closed forms, exact integrals, and the way back."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.physics.spherical_modes import SphericalModes, cached_modes, truncated

RADIUS = 3.0


def modes(shape: tuple[int, int] = (24, 48)) -> SphericalModes:
    return cached_modes(shape, RADIUS, torch.float64, torch.device("cpu"))


def axes(grid: SphericalModes) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(grid.latitude)[:, None], torch.from_numpy(grid.longitude)[None, :]


def test_the_vorticity_of_a_rotation_about_any_axis_is_twice_its_rate() -> None:
    grid = modes()
    y, x = axes(grid)
    eastward = 0.7 * y.cos() - 0.4 * y.sin() * (x - 1).cos()
    wind = torch.stack([eastward, 0.4 * (x - 1).sin() + 0 * y])
    curl, divergence = grid.curl_and_divergence(wind)
    assert_close(grid.backward(curl), 2 / RADIUS * (0.7 * y.sin() + 0.4 * y.cos() * (x - 1).cos()))
    assert grid.backward(divergence).abs().max() < 1e-13
    assert_close(grid.wind(curl, divergence), wind)


def test_a_gradient_diverges_as_the_laplacian_says() -> None:
    grid = modes()
    y, x = axes(grid)
    # Of the potential cos^2 y cos 2x / 2, of degree 2.
    eastward, northward = -y.cos() * (2 * x).sin() / RADIUS, -y.cos() * y.sin() * (2 * x).cos() / RADIUS
    curl, divergence = grid.curl_and_divergence(torch.stack([eastward, northward]))
    potential = y.cos() ** 2 * (2 * x).cos() / 2
    assert_close(grid.backward(divergence), -6 / RADIUS**2 * potential)
    assert_close(grid.backward(grid.eigenvalues * grid.forward(potential)), -6 / RADIUS**2 * potential)
    assert grid.backward(curl).abs().max() < 1e-13


def test_means_are_those_of_the_sphere() -> None:
    grid = modes()
    y, x = axes(grid)
    assert_close(grid.mean(y.sin() ** 2 + 0 * x), torch.tensor(1 / 3, dtype=torch.float64))
    assert_close(grid.mean(1 + x.cos() * y.cos()), torch.tensor(1.0, dtype=torch.float64))


def test_coefficients_mean_the_same_on_other_grids() -> None:
    coarse, fine = modes(), modes((36, 80))
    rng = np.random.default_rng(0)
    field = coarse.backward(coarse.forward(torch.from_numpy(rng.standard_normal((24, 48)))))
    there = fine.backward(truncated(coarse.forward(field), fine.degrees))
    assert_close(coarse.backward(truncated(fine.forward(there), coarse.degrees)), field)


def test_too_few_columns_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"8 waves round the Earth need 16 columns"):
        SphericalModes((24, 12), RADIUS, torch.float64, torch.device("cpu"))


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_harmonics", None)
    with pytest.raises(ConfigError, match=r"pip install 'pelagos\[sphere\]'"):
        SphericalModes((24, 48), RADIUS, torch.float64, torch.device("cpu"))
