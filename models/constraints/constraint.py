"""Constraint: what every constraint can do.

Shapes: B samples, C channels, H rows, W columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from pelagos.models.constraints.physical_fields import Channel, PhysicalFields


@dataclass(frozen=True, eq=False)
class PointWeights:
    """How much each point counts in a global mean.

    Attributes:
        area: (H, W) shares of the cells, which add up to 1; float64.
        mask: (B, C, H, W) of the outputs, False at points without values; None where all have one.
    """

    area: Tensor
    mask: Tensor | None = None

    def mean(self, values_BHW: Tensor, channels: Sequence[Channel]) -> Tensor:
        """(B, 1, 1) mean over the points where all of these output channels have values; 0 where none has."""
        if self.mask is None:
            return (values_BHW * self.area).sum((-2, -1), keepdim=True)
        present_BHW = self.mask[:, [channel.position for channel in channels]].all(1)
        area_BHW = self.area * present_BHW
        total_B11 = area_BHW.sum((-2, -1), keepdim=True)
        return (values_BHW * area_BHW).sum((-2, -1), keepdim=True) / total_B11.where(total_B11 > 0, 1.0)


Correction = Callable[[PhysicalFields, PhysicalFields, Tensor, PointWeights], None]
"""Changes the fields after a step so that they obey, given the fields before it, those after it, its duration (B,) in
the dataset's unit of time, and the weights of the points."""
