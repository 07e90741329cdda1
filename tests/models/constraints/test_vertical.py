"""How much of a column's mass belongs to each level."""

import pytest
import torch
from pydantic import ValidationError

from pelagos.models.constraints.dry_mass import DryMass
from pelagos.models.constraints.physical_fields import PhysicalFields
from pelagos.models.constraints.vertical import GRAVITY, HybridLevels, PressureLevels
from pelagos.preprocessing.errors import ConfigError
from tests.models.constraints.atmospheres import HALF_A, HALF_B, HYBRID, atmosphere, fields, step


def test_layers_between_half_levels_hold_all_air_below_the_top() -> None:
    dataset = atmosphere("hybrid")
    before, _ = fields(dataset, torch.float64)
    read = PhysicalFields(before, dataset.inputs)
    column = HybridLevels(a=HALF_A, b=HALF_B).build(dataset, dataset.levels("temperature", "test"), "test")
    surface = read.read(dataset.inputs["surface_pressure"], "Pa")
    torch.testing.assert_close(column.masses(read).sum(1) * GRAVITY, surface - HALF_A[0])


def test_trapezoids_integrate_what_is_linear_in_pressure() -> None:
    dataset = atmosphere("pressure")
    before, _ = fields(dataset, torch.float64)
    levels = dataset.levels("temperature", "test")
    pressure = torch.tensor([100 * (one.variable.level or 0) for one in levels], dtype=torch.float64)
    masses = PressureLevels().build(dataset, levels, "test").masses(PhysicalFields(before, dataset.inputs))
    found = (masses[0, :, 0, 0] * (3 + 2 * pressure)).sum() * GRAVITY
    top, bottom = pressure[0], pressure[-1]
    torch.testing.assert_close(found, 3 * (bottom - top) + bottom**2 - top**2)


def test_levels_that_are_no_pressures_need_coefficients() -> None:
    with pytest.raises(ConfigError, match=r"not in one of pressure; hybrid levels need vertical"):
        step(atmosphere("hybrid"), DryMass())


def test_coefficients_must_fit_the_levels_and_grow_downwards() -> None:
    few = DryMass(vertical=HybridLevels(a=(0.0, 0.0), b=(0.0, 1.0)))
    with pytest.raises(
        ConfigError, match=r"vertical\.a has 2 values; specific_humidity of weather has 4 levels"
    ):
        step(atmosphere("hybrid"), few)
    with pytest.raises(ValidationError, match="list them from the top"):
        DryMass.model_validate({"vertical": HYBRID | {"b": HALF_B[::-1]}})
