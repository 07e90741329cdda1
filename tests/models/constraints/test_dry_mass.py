"""The mass of dry air does not change, whatever the network says."""

from dataclasses import replace

import pytest
import torch

from pelagos.models.constraints.dry_mass import DryMass
from pelagos.preprocessing.errors import ConfigError
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


def test_dry_mass_stays_what_it_was(vertical: str, dtype: torch.dtype) -> None:
    dataset = atmosphere(vertical)
    before, after = fields(dataset, dtype)
    made = step(dataset, DryMass(**VERTICALS[vertical]))(before, after, torch.ones(2))
    assert made.dtype == dtype
    masses = [
        global_mean(
            (
                (1 - physical(x, channels, "specific_humidity") / 1000) * layer_masses(x, channels, vertical)
            ).sum(1)
        )
        for x, channels in ((before, dataset.inputs), (after, dataset.outputs), (made, dataset.outputs))
    ]
    torch.testing.assert_close(masses[2], masses[0], rtol=TOLERANCES[dtype], atol=0)
    assert ((masses[1] - masses[0]).abs() > 1e-4 * masses[0]).all(), "the network's own mass is another"
    moved = (made != after).flatten(2).any(2).any(0)
    only = "surface_pressure" if vertical == "hybrid" else "specific_humidity"
    assert {v.name for v, m in zip(dataset.layout.outputs, moved, strict=True) if m} == {only}


def test_gradients_flow_through_the_correction(vertical: str) -> None:
    dataset = atmosphere(vertical)
    before, after = fields(dataset, torch.float64)
    correct = step(dataset, DryMass(**VERTICALS[vertical]))
    before, after = before[:1, :, :2, :2], after[:1, :, :2, :2]
    dataset.__dict__["area"] = torch.full((2, 2), 0.25, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, y: correct(x, y, torch.ones(1)), (before.requires_grad_(), after.requires_grad_())
    )


def test_the_budget_of_a_region_is_refused() -> None:
    dataset = atmosphere("pressure")
    grid = replace(dataset.layout.grid, boundary_y=("open", "open"))
    region = replace(dataset, layout=replace(dataset.layout, grid=grid))
    with pytest.raises(ConfigError, match="budget of the whole sphere"):
        step(region, DryMass())
