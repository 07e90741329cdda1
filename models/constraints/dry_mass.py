"""Dry mass: the mass of dry air over the globe, which nothing adds to or takes from.

Source: NCAR/miles-credit's global mass fixer.

Shapes: B samples, L levels, H rows, W columns.
"""

from typing import Literal

import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import PhysicalFields
from pelagos.models.constraints.vertical import PressureLevels, Vertical
from pelagos.preprocessing.config import Config


class DryMass(Config):
    """The global mean of the integral of (1 - q) dp / g stays what it was before the step.

    On hybrid levels the surface pressure is multiplied by one number. Levels of pressure hold a fixed mass of moist
    air, so that what is not dry is water: the humidity is multiplied by one number, which leaves it positive.

    Attributes:
        vertical: the kind of levels.
        humidity: the specific humidity q.
    """

    kind: Literal["dry_mass"] = "dry_mass"
    vertical: Vertical = PressureLevels()
    humidity: str = "specific_humidity"

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return (self.humidity,)

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset; raises ConfigError where it lacks a field or is not global."""
        dataset.check_global(self.kind)
        humidity = dataset.levels(self.humidity, self.kind)
        dataset.levels(self.humidity, self.kind, "inputs")
        column = self.vertical.build(dataset, humidity, self.kind)

        def scale_humidity(before: PhysicalFields, after: PhysicalFields, weights: PointWeights) -> None:
            masses = column.masses(after)
            q0_BLHW, q_BLHW = (fields.profile(humidity, "1") for fields in (before, after))
            wanted, found = (weights.mean((masses * q).sum(1), humidity)[:, None] for q in (q0_BLHW, q_BLHW))
            # Air without any water has no factor that gives it some.
            dry = found == 0
            scaled_BLHW = q_BLHW * (wanted / torch.where(dry, 1.0, found))
            after.write_profile(humidity, torch.where(dry, wanted / masses.sum(), scaled_BLHW), "1")

        def scale_pressure(before: PhysicalFields, after: PhysicalFields, weights: PointWeights) -> None:
            assert column.surface is not None
            q0_BLHW, q_BLHW = (fields.profile(humidity, "1") for fields in (before, after))
            wanted = weights.mean(((1 - q0_BLHW) * column.masses(before)).sum(1), humidity)
            found = weights.mean(((1 - q_BLHW) * column.masses(after)).sum(1), humidity)
            # The part of the mass that is proportional to the surface pressure takes the whole correction.
            movable_BLHW = (1 - q_BLHW) * column.movable_masses(after)
            factor = 1 + (wanted - found) / weights.mean(movable_BLHW.sum(1), humidity)
            after.write(column.surface, after.read(column.surface, "Pa") * factor, "Pa")

        scale = scale_humidity if column.surface is None else scale_pressure

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            scale(before, after, weights)

        return correct
