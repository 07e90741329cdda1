"""Non-negative: fields that are never below a threshold, such as tracers and densities."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import Channel, PhysicalFields, levels_of
from pelagos.preprocessing.config import Config


class NonNegative(Config):
    """Values below a threshold become the threshold.

    That adds to the mean of a field: `conserved_mean` with `correction: scale` after it takes the same share from all
    points again.

    Attributes:
        variables: names, for all of their levels, or keys.
        threshold: in the variables' units.
    """

    kind: Literal["non_negative"] = "non_negative"
    variables: tuple[str, ...] = Field(min_length=1)
    threshold: float = Field(default=0.0, ge=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return self.variables

    def channels(self, dataset: ConstrainedDataset) -> list[Channel]:
        """Those that are constrained."""
        return [channel for name in self.variables for channel in levels_of(name, dataset.outputs)]

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset, which has some of the variables."""
        channels = self.channels(dataset)

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            for channel in channels:
                after.write(channel, after.read(channel).clamp(min=self.threshold))

        return correct

    def floor(self, channel: Channel, dtype: torch.dtype) -> float:
        """The smallest normalised value of this type that no rounding brings below the threshold again."""
        kind = np.float64 if dtype == torch.float64 else np.float32
        bound = torch.tensor(self.threshold, dtype=torch.float64)
        value = kind(channel.normalized(bound).item())
        # As forecasts denormalise: in the type of the fields.
        stored = kind(channel.normalized(bound).item() * channel.std + channel.mean)
        stored = kind(0.0) if self.threshold == 0 and channel.variable.transform is None else stored
        while value * kind(channel.std) + kind(channel.mean) < stored:
            value = np.nextafter(value, kind(np.inf))
        return float(value)
