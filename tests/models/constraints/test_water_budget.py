"""Water that the atmosphere gains has evaporated and not rained."""

import pytest
import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.dry_mass import DryMass
from pelagos.models.constraints.water_budget import WaterBudget
from tests.models.constraints.atmospheres import (
    TOLERANCES,
    VERTICALS,
    atmosphere,
    fields,
    global_mean,
    layer_masses,
    physical,
    step,
)


def water(x: Tensor, channels: object, vertical: str) -> Tensor:
    return global_mean(
        (physical(x, channels, "specific_humidity") / 1000 * layer_masses(x, channels, vertical)).sum(1)
    )


def imbalance(dataset: ConstrainedDataset, before: Tensor, made: Tensor, vertical: str) -> Tensor:
    """[kg m-2] what the atmosphere gains beyond what its surface gives."""
    gain = water(made, dataset.outputs, vertical) - water(before, dataset.inputs, vertical)
    rain = global_mean(physical(made, dataset.outputs, "total_precipitation")[:, 0])
    down = global_mean(1000 * physical(made, dataset.outputs, "evaporation")[:, 0])
    return gain + rain + down


@pytest.mark.parametrize("case", ["rain", "no rain at all", "too dry for any rain"])
def test_the_budget_of_water_is_closed(vertical: str, dtype: torch.dtype, case: str) -> None:
    dataset = atmosphere(vertical)
    before, after = fields(dataset, dtype)
    after[:, : before.shape[1] - 1] = before[:, :-1] + 0.01 * after[:, : before.shape[1] - 1]
    rain = dataset.outputs["total_precipitation"]
    if case == "no rain at all":
        after[:, rain.position] = -rain.mean / rain.std
    if case == "too dry for any rain":
        for channel in dataset.outputs.values():
            if channel.variable.name == "specific_humidity":
                after[:, channel.position] += 1.0
    vertically = VERTICALS[vertical]
    made = step(dataset, DryMass(**vertically), WaterBudget(**vertically))(before, after, torch.ones(2))
    # Relative to the column's water, some 30 kg m-2.
    whole = water(before, dataset.inputs, vertical)
    assert (imbalance(dataset, before, made, vertical).abs() <= TOLERANCES[dtype] * whole).all()
    if case == "too dry for any rain" and vertical == "hybrid":
        assert (physical(made, dataset.outputs, "total_precipitation").abs() < 1e-6).all()
    else:
        assert (physical(made, dataset.outputs, "total_precipitation") > -1e-6).all()


def test_scaled_rain_falls_where_it_fell(vertical: str) -> None:
    dataset = atmosphere(vertical)
    before, after = fields(dataset, torch.float64)
    after[:, : before.shape[1] - 1] = before[:, :-1]
    made = step(dataset, WaterBudget(**VERTICALS[vertical]))(before, after, torch.ones(2))
    ratio = physical(made, dataset.outputs, "total_precipitation") / physical(
        after, dataset.outputs, "total_precipitation"
    )
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    place = dataset.outputs["evaporation"].position
    torch.testing.assert_close(made[:, place], after[:, place])
