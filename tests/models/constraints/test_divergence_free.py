"""Flows in a periodic box lose their divergence and nothing else."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.models.constraints.divergence_free import DivergenceFree
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable
from tests.models.constraints.atmospheres import Said

H, W = 12, 16
X = np.linspace(0, 3, W, endpoint=False, dtype=np.float64)
Y = np.linspace(0, 2, H, endpoint=False, dtype=np.float64)
FIELDS = (Variable(name="velocity_x", units="m s-1"), Variable(name="velocity_y", units="cm s-1"))
SCALES = {"velocity_x": Said(0.5, 2.0), "velocity_y": Said(-30.0, 150.0)}


def step(
    y: NDArray[np.float64], flow_m_per_s: torch.Tensor, sides: Sides = ("periodic", "periodic")
) -> torch.Tensor:
    """The flow (B, 2, H, W) in m/s after a step that forecasts the given one."""
    grid = Grid("cartesian", y, X, sides, ("periodic", "periodic"))
    given = ConstrainedStep(
        [DivergenceFree()], ConstrainedDataset(Layout("box", FIELDS, FIELDS, grid), SCALES)
    )
    per_unit = torch.tensor([1.0, 100.0], dtype=flow_m_per_s.dtype)[:, None, None]
    mean, std = (
        torch.tensor([getattr(one, name) for one in SCALES.values()], dtype=flow_m_per_s.dtype)[:, None, None]
        for name in ("mean", "std")
    )
    x_BCHW = (flow_m_per_s * per_unit - mean) / std
    return (given(x_BCHW, x_BCHW, torch.ones(len(x_BCHW))) * std + mean) / per_unit


def waves(y: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
    """A flow from a stream function, and one from a potential; with means."""
    b, a = np.meshgrid(2 * np.pi * y / 2.0, 2 * np.pi * X / 3.0, indexing="ij")
    ky, kx = 2 * np.pi / 2.0, 2 * np.pi / 3.0
    # psi = phi = sin(2a + b)
    slope = np.cos(2 * a + b)
    stream = np.stack([ky * slope + 0.7, -2 * kx * slope - 0.2])
    return torch.from_numpy(stream)[None], torch.from_numpy(np.stack([2 * kx * slope, ky * slope]))[None]


@pytest.mark.parametrize("y", [Y, Y[::-1].copy()], ids=["upward", "downward"])
def test_a_gradient_goes_and_a_flow_of_streams_stays(y: NDArray[np.float64]) -> None:
    stream, gradient = waves(y)
    torch.testing.assert_close(step(y, stream), stream, rtol=0, atol=1e-12)
    torch.testing.assert_close(step(y, stream + gradient), stream, rtol=0, atol=1e-12)


def test_it_is_a_projection_in_single_precision_too_and_has_gradients() -> None:
    noise = torch.randn(2, 2, H, W, requires_grad=True)
    once = step(Y, noise)
    torch.testing.assert_close(step(Y, once), once, rtol=0, atol=2e-6)
    assert once.square().sum() < noise.square().sum()
    once.square().sum().backward()
    assert noise.grad is not None
    assert noise.grad.isfinite().all()


def test_a_box_with_walls_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"divergence_free needs .* box is cartesian with sides wall,wall along y"
    ):
        step(Y, waves(Y)[0], ("wall", "wall"))


def test_along_a_single_row_a_flow_keeps_its_mean_and_what_crosses_it() -> None:
    wave = torch.from_numpy(np.sin(4 * np.pi * X / 3.0))
    flow = torch.stack([0.5 + wave, 2 * wave])[None, :, None]
    wanted = torch.stack([torch.full_like(wave, 0.5), 2 * wave])[None, :, None]
    torch.testing.assert_close(step(np.zeros(1), flow), wanted, rtol=0, atol=1e-12)


def test_a_vector_of_one_component_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="velocity_x is named as both components"):
        DivergenceFree(vectors=(("velocity_x", "velocity_x"),))
