"""Tracers are never negative, not even by rounding."""

import numpy as np
import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.models.constraints.non_negative import NonNegative
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.variables import Variable
from tests.models.constraints.atmospheres import Said

GRID = Grid("cartesian", np.arange(6.0), np.arange(5.0))
TRACERS = (Variable(name="tracer", level=1.0), Variable(name="tracer", level=2.0), Variable(name="heat"))
MEAN, STD = np.array([0.1, 1234.567, 0.0]), np.array([0.7, 0.0321, 1.0])
DATASET = ConstrainedDataset(
    Layout("box", TRACERS, TRACERS, GRID),
    {one.key: Said(*pair) for one, *pair in zip(TRACERS, MEAN.tolist(), STD.tolist(), strict=True)},
)


def corrected(x_BCHW: Tensor, threshold: float = 0.0) -> Tensor:
    one = NonNegative(variables=("tracer",), threshold=threshold)
    return ConstrainedStep([one], DATASET)(x_BCHW, x_BCHW, torch.ones(len(x_BCHW)))


def test_what_a_forecast_writes_is_not_below_zero_by_a_digit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x_BCHW = torch.randn(4, 3, 6, 5, dtype=dtype) * torch.tensor([3.0, 8e4, 1.0], dtype=dtype)[:, None, None]
    scales = Normalizer(tuple(one.key for one in TRACERS), MEAN, STD)
    written = scales.denormalize(corrected(x_BCHW).numpy())
    assert (written[:, :2] >= 0).all()
    assert (scales.denormalize(x_BCHW.numpy())[:, :2] < 0).any(axis=(0, 2, 3)).all()


def test_other_values_stay_to_the_bit_in_single_precision_and_other_variables_always(
    dtype: torch.dtype,
) -> None:
    x_BCHW = torch.rand(2, 3, 6, 5, dtype=dtype)
    made = corrected(x_BCHW)
    assert torch.equal(made[:, 2], x_BCHW[:, 2])
    torch.testing.assert_close(made, x_BCHW, rtol=1e-6, atol=1e-6)


def test_a_threshold_is_in_physical_units() -> None:
    x_BCHW = torch.full((1, 3, 6, 5), -5.0, dtype=torch.float64)
    torch.testing.assert_close(
        corrected(x_BCHW, 0.25)[:, 0] * 0.7 + 0.1, torch.full((1, 6, 5), 0.25).double()
    )


def test_points_above_the_threshold_have_their_gradient() -> None:
    x_BCHW = torch.randn(1, 3, 6, 5, requires_grad=True)
    corrected(x_BCHW)[:, 0].sum().backward()
    assert x_BCHW.grad is not None
    above = x_BCHW.detach()[:, 0] * 0.7 + 0.1 > 0
    torch.testing.assert_close(x_BCHW.grad[:, 0], above.float())
