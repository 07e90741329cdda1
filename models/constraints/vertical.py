"""Vertical coordinate: how much of a column's mass belongs to each level.

Shapes: B samples, L levels from the top downwards, H rows, W columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.physical_fields import Channel, PhysicalFields
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities.units import conversion

GRAVITY = 9.80665
"""[m s-2], the standard value, as in CREDIT."""


@dataclass(frozen=True, eq=False)
class Column:
    """The pressure thickness of each level, linear in the surface pressure.

    Attributes:
        fixed: the part that does not depend on the surface pressure [Pa].
        share: the part that does, as a share of it.
        surface: the channel of the surface pressure; None where nothing depends on it.
    """

    fixed: Tensor
    share: Tensor
    surface: Channel | None = None

    def masses(self, fields: PhysicalFields) -> Tensor:
        """(B or 1, L, H or 1, W or 1) mass of a level's share of the column [kg m-2]."""
        fixed_L11 = self.fixed.to(fields.device)[:, None, None] / GRAVITY
        return fixed_L11[None] if self.surface is None else fixed_L11 + self.movable_masses(fields)

    def movable_masses(self, fields: PhysicalFields) -> Tensor:
        """(B, L, H, W) the part of the mass that is proportional to the surface pressure [kg m-2]."""
        assert self.surface is not None, "levels of pressure hold a fixed mass"
        share_L11 = self.share.to(fields.device)[:, None, None] / GRAVITY
        return share_L11 * fields.read(self.surface, "Pa")[:, None]


class PressureLevels(Config):
    """Levels of pressure, as in ERA5's files: integrals are trapezoids between them."""

    kind: Literal["pressure"] = "pressure"

    def build(self, dataset: ConstrainedDataset, levels: Sequence[Channel], constraint: str) -> Column:
        """The column of a field at these levels; raises ConfigError where they are not pressures."""
        numbers = [channel.variable.level for channel in levels]
        if len(levels) < 2 or None in numbers:
            raise ConfigError(
                f"constraints: {constraint} needs {levels[0].variable.name} at several pressures"
            )
        scale, offset = _to_pascal(dataset.level_units, constraint)
        pressure_L = torch.tensor([scale * (n or 0.0) + offset for n in numbers], dtype=torch.float64)
        return Column(_trapezoids(pressure_L), torch.zeros_like(pressure_L))


class HybridLevels(Config):
    """Levels at a pressure a + b times the surface pressure, counted from the top as in models.

    Attributes:
        a: [Pa], one more than levels for layers between half levels, whose values are means; or one a level, between
            which integrals are trapezoids.
        b: one for each of `a`.
        surface_pressure: the variable.
    """

    kind: Literal["hybrid"] = "hybrid"
    a: tuple[float, ...] = Field(min_length=2)
    b: tuple[float, ...] = Field(min_length=2)
    surface_pressure: str = "surface_pressure"

    @model_validator(mode="after")
    def _downwards(self) -> Self:
        if len(self.a) != len(self.b):
            raise ValueError(f"a has {len(self.a)} values, b {len(self.b)}: each level has one of both")
        at_sea_level = [a + 101325 * b for a, b in zip(self.a, self.b, strict=True)]
        if any(upper >= lower for upper, lower in pairwise(at_sea_level)):
            raise ValueError(
                "a + 101325 Pa * b must grow from each level to the next: list them from the top"
            )
        return self

    def build(self, dataset: ConstrainedDataset, levels: Sequence[Channel], constraint: str) -> Column:
        """The column of a field at these levels; raises ConfigError where their number is another."""
        a, b = (torch.tensor(part, dtype=torch.float64) for part in (self.a, self.b))
        surface = dataset.single(self.surface_pressure, constraint)
        if len(a) == len(levels) + 1:
            return Column(a.diff(), b.diff(), surface)
        if len(a) == len(levels):
            return Column(_trapezoids(a), _trapezoids(b), surface)
        raise ConfigError(
            f"constraints: {constraint}: vertical.a has {len(a)} values; {levels[0].variable.name} of"
            f" {dataset.layout.dataset} has {len(levels)} levels, which takes {len(levels)} or {len(levels) + 1}"
        )


Vertical = Annotated[PressureLevels | HybridLevels, Field(discriminator="kind")]


def _trapezoids(position_L: Tensor) -> Tensor:
    """The weights of the trapezoidal rule."""
    halves = position_L.diff() / 2
    zero = halves.new_zeros(1)
    return torch.cat([halves, zero]) + torch.cat([zero, halves])


def _to_pascal(units: str, constraint: str) -> tuple[float, float]:
    try:
        return conversion(units, "Pa")
    except ConfigError as error:
        raise ConfigError(
            f"constraints: {constraint}: the levels are in {units or 'no unit'}, not in one of pressure; hybrid levels"
            " need vertical: {kind: hybrid, a: [...], b: [...]}"
        ) from error
