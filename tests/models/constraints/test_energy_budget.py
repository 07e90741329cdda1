"""Energy that the atmosphere gains has passed its top or its surface."""

from typing import Any

import pytest
import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.dry_mass import DryMass
from pelagos.models.constraints.energy_budget import EnergyBudget
from pelagos.models.constraints.water_budget import WaterBudget
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

FLUXES: dict[str, Any] = {"top": ("top_net_radiation",), "surface": ("surface_net_flux",)}


def energy(dataset: ConstrainedDataset, x: Tensor, channels: Any, before: Tensor, vertical: str) -> Tensor:
    """[J m-2] of moist air: internal and potential, latent, of the ground's height, kinetic."""
    q = physical(x, channels, "specific_humidity") / 1000
    ground = physical(before, dataset.inputs, "geopotential_at_surface")
    wind = sum(physical(x, channels, f"{part}_component_of_wind") ** 2 for part in "uv")
    capacity = (1 - q) * 1004.64 + q * 1810.0
    total = capacity * physical(x, channels, "temperature") + 2.501e6 * q + ground + wind / 2
    return global_mean((total * layer_masses(x, channels, vertical)).sum(1))


@pytest.mark.parametrize("fluxes", [{}, FLUXES], ids=["closed", "fluxes"])
def test_the_budget_of_energy_is_closed(vertical: str, dtype: torch.dtype, fluxes: dict[str, Any]) -> None:
    dataset = atmosphere(vertical)
    before, after = fields(dataset, dtype)
    vertically = VERTICALS[vertical]
    # After all others, which change masses and humidity.
    constraints = DryMass(**vertically), WaterBudget(**vertically), EnergyBudget(**vertically, **fluxes)
    made = step(dataset, *constraints)(before, after, torch.tensor([1.0, 2.0]))
    found = energy(dataset, made, dataset.outputs, before, vertical)
    wanted = energy(dataset, before, dataset.inputs, before, vertical)
    if fluxes:
        seconds = torch.tensor([1.0, 2.0]) * 6 * 3600
        top = global_mean(physical(made, dataset.outputs, "top_net_radiation")[:, 0]) * seconds
        wanted = wanted + top - global_mean(physical(made, dataset.outputs, "surface_net_flux")[:, 0])
    torch.testing.assert_close(found, wanted, rtol=TOLERANCES[dtype], atol=0)


def test_only_temperature_pays(vertical: str) -> None:
    dataset = atmosphere(vertical)
    before, after = fields(dataset, torch.float64)
    made = step(dataset, EnergyBudget(**VERTICALS[vertical]))(before, after, torch.ones(2))
    moved = (made != after).flatten(2).any(2).any(0)
    assert {v.name for v, m in zip(dataset.layout.outputs, moved, strict=True) if m} == {"temperature"}


def test_a_wind_in_a_unit_of_something_else_is_refused() -> None:
    dataset = atmosphere("pressure")
    before, after = fields(dataset, torch.float64)
    wrong = step(dataset, EnergyBudget(wind=("temperature", "v_component_of_wind")))
    with pytest.raises(ConfigError, match=r"temperature@200 is needed in m s-1"):
        wrong(before, after, torch.ones(2))
