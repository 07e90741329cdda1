import math

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.spectral import Modes
from pelagos.preprocessing.physics.vorticity import to_velocity, to_vorticity


def modes_and_axes(shape: tuple[int, int], length: float) -> tuple[Modes, Tensor, Tensor]:
    y = torch.arange(shape[0], dtype=torch.float64)[:, None] * length / shape[0]
    x = torch.arange(shape[1], dtype=torch.float64)[None, :] * length / shape[1]
    return Modes(shape, length, torch.float64, torch.device("cpu")), y.expand(shape), x.expand(shape)


@pytest.mark.parametrize("length", [1.0, 5.0])
def test_velocity_is_the_rotated_gradient_of_the_stream_function(length: float) -> None:
    modes, y, x = modes_and_axes((12, 18), length)
    k = 2 * math.pi / length
    # psi = cos(k x) cos(2 k y): w = -Lap psi = 5 k^2 psi, u = d psi/dy, v = -d psi/dx.
    psi = torch.cos(k * x) * torch.cos(2 * k * y)
    u = -2 * k * torch.cos(k * x) * torch.sin(2 * k * y)
    v = k * torch.sin(k * x) * torch.cos(2 * k * y)
    velocity = to_velocity(modes, modes.forward(5 * k * k * psi[None]))[0]
    torch.testing.assert_close(velocity, torch.stack([u, v]), rtol=0, atol=1e-12 * k)
    vorticity = modes.backward(to_vorticity(modes, torch.stack([u, v])[None]))[0]
    torch.testing.assert_close(vorticity, 5 * k * k * psi, rtol=0, atol=1e-12 * k * k)


def test_the_mean_flow_travels_in_the_coefficient_at_zero() -> None:
    modes, _, _ = modes_and_axes((9, 8), 2.0)
    wind = torch.tensor([0.5, -0.25], dtype=torch.float64)[None, :, None, None].expand(1, 2, 9, 8)
    coefficients = to_vorticity(modes, wind)
    assert coefficients[0, 0, 0].item() == pytest.approx(0.5 - 0.25j)
    assert coefficients.abs().sum() == pytest.approx(abs(0.5 - 0.25j))
    torch.testing.assert_close(to_velocity(modes, coefficients), wind)
    assert modes.backward(coefficients).sub(0.5).abs().max() < 1e-15, "the imaginary part is not seen"
