"""Means that a closed domain keeps, of PDEs too."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pelagos.models.constraints.conserved_mean import ConservedMean
from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.models.constraints.non_negative import NonNegative
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.transform import Log1p
from pelagos.preprocessing.variables import Variable
from tests.models.constraints.atmospheres import TOLERANCES, Said

GRID = Grid("cartesian", np.array([0.0, 1.0, 3.0, 4.0]), np.arange(5.0))
VARIABLES = (Variable(name="density"), Variable(name="tracer", transform=Log1p(scale=0.1)))
DATASET = ConstrainedDataset(
    Layout("box", VARIABLES, VARIABLES, GRID), {"density": Said(1.0, 0.3), "tracer": Said(0.4, 0.2)}
)
AREA = torch.from_numpy(GRID.area_weights() / GRID.area_weights().sum())


def draw(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    made = torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return made[0].to(dtype), made[1].to(dtype)


def physical(x_BCHW: Tensor) -> Tensor:
    density, tracer = x_BCHW.double().unbind(1)
    return torch.stack([density * 0.3 + 1, torch.expm1(tracer * 0.2 + 0.4) * 0.1], 1)


@pytest.mark.parametrize("correction", ["shift", "scale"])
def test_means_over_uneven_cells_stay_through_any_transform(dtype: torch.dtype, correction: str) -> None:
    before, after = draw(dtype)
    one = ConservedMean.model_validate({"variables": ["density", "tracer"], "correction": correction})
    made = ConstrainedStep([one], DATASET)(before, after, torch.ones(3))
    means = [(physical(x) * AREA).sum((2, 3)) for x in (made, before, after)]
    torch.testing.assert_close(means[0], means[1], rtol=TOLERANCES[dtype], atol=0)
    assert not torch.allclose(means[2], means[1], rtol=1e-3)
    change = physical(made) - physical(after) if correction == "shift" else physical(made) / physical(after)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(change, change[..., :1, :1].expand_as(change), rtol=tolerance, atol=tolerance)


def test_points_without_values_do_not_count(dtype: torch.dtype) -> None:
    before, after = draw(dtype)
    mask = torch.ones(3, 2, 4, 5, dtype=torch.bool)
    mask[0, 0, 1:3] = False
    mask[1] = False  # nothing there at all
    made = ConstrainedStep([ConservedMean(variables=("density",))], DATASET)(
        before, after, torch.ones(3), mask
    )
    weights = torch.where(mask[:, 0], AREA, 0.0)
    found, wanted = ((physical(x)[:, 0] * weights).sum((1, 2)) for x in (made, before))
    torch.testing.assert_close(found, wanted, rtol=TOLERANCES[dtype], atol=1e-15)
    assert torch.equal(made[1].isfinite(), torch.ones_like(mask[1]))


def test_positive_fields_keep_mean_and_sign_together(dtype: torch.dtype) -> None:
    before, after = draw(dtype)
    before = before.clamp(min=-3.0)
    constraints = (
        NonNegative(variables=("density",)),
        ConservedMean(variables=("density",), correction="scale"),
    )
    made = ConstrainedStep(constraints, DATASET)(before, 3 * after, torch.ones(3))
    found, wanted = ((physical(x)[:, 0] * AREA).sum((1, 2)) for x in (made, before))
    torch.testing.assert_close(found, wanted, rtol=TOLERANCES[dtype], atol=0)
    assert physical(made)[:, 0].min() >= -1e-7
    assert (physical(3 * after)[:, 0] < 0).any()


def test_a_long_rollout_in_single_precision_does_not_drift() -> None:
    torch.manual_seed(0)
    state, _ = draw(torch.float32)
    correct = ConstrainedStep([ConservedMean(variables=("density",))], DATASET)
    first = (physical(state)[:, 0] * AREA).sum((1, 2))
    for _ in range(500):
        state = correct(state, state + 0.1 * torch.randn_like(state) + 0.01, torch.ones(3))
    torch.testing.assert_close((physical(state)[:, 0] * AREA).sum((1, 2)), first, rtol=1e-5, atol=0)


def test_a_field_that_is_no_input_has_no_mean_to_keep() -> None:
    rain = Variable(name="rain", role="diagnostic")
    layout = Layout("box", VARIABLES, (*VARIABLES, rain), GRID)
    with pytest.raises(ConfigError, match="rain is no input of box"):
        ConservedMean(variables=("rain",)).build(
            ConstrainedDataset(layout, {**DATASET.scales, "rain": Said(0, 1)})
        )
