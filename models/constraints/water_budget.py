"""Water budget: what the atmosphere gains of water is what evaporates and does not rain.

Source: NCAR/miles-credit's global water fixer.

Shapes: B samples, L levels, H rows, W columns.
"""

from typing import Literal

import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import PhysicalFields
from pelagos.models.constraints.surface_flux import SurfaceFlux
from pelagos.models.constraints.vertical import PressureLevels, Vertical
from pelagos.preprocessing.config import Config


class WaterBudget(Config):
    """Global means: change of the column's water = evaporation - precipitation over the step.

    Precipitation is multiplied by one number; where it is zero throughout, the same is added everywhere. Should even no
    rain be too much, precipitation is zero and evaporation takes the rest, the same amount everywhere.

    Attributes:
        vertical: the kind of levels.
        water: fields of water, which are added up.
        precipitation: rate, or amount over the step.
        evaporation: rate, or amount over the step.
        evaporation_positive: its sign: `downward` as in ERA5, where evaporation is negative, or `upward`.
    """

    kind: Literal["water"] = "water"
    vertical: Vertical = PressureLevels()
    water: tuple[str, ...] = ("specific_humidity",)
    precipitation: str = "total_precipitation"
    evaporation: str = "evaporation"
    evaporation_positive: Literal["downward", "upward"] = "downward"

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return (self.precipitation,)

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset; raises ConfigError where it lacks a field or is not global."""
        dataset.check_global(self.kind)
        kinds = [dataset.levels(name, self.kind) for name in self.water]
        for name in self.water:
            dataset.levels(name, self.kind, "inputs")
        columns = [self.vertical.build(dataset, levels, self.kind) for levels in kinds]
        rain = SurfaceFlux.of(dataset, self.precipitation, self.kind, "kg m-2")
        evaporation = SurfaceFlux.of(dataset, self.evaporation, self.kind, "kg m-2")
        upward = 1.0 if self.evaporation_positive == "upward" else -1.0

        def water(fields: PhysicalFields, weights: PointWeights) -> Tensor:
            return torch.stack(
                [
                    weights.mean((fields.profile(levels, "1") * column.masses(fields)).sum(1), levels)
                    for levels, column in zip(kinds, columns, strict=True)
                ]
            ).sum(0)

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            gain = water(after, weights) - water(before, weights)
            up_BHW = upward * evaporation.read(after, duration_B)
            rain_BHW = rain.read(after, duration_B)
            wanted = weights.mean(up_BHW, [evaporation.channel]) - gain
            found = weights.mean(rain_BHW, [rain.channel])
            raining = found > 0
            scaled_BHW = rain_BHW * (wanted / torch.where(raining, found, 1.0))
            rain_BHW = torch.where(wanted > 0, torch.where(raining, scaled_BHW, wanted), 0.0)
            rain.write(after, rain_BHW, duration_B)
            evaporation.write(after, upward * (up_BHW - wanted.clamp(max=0.0)), duration_B)

        return correct
