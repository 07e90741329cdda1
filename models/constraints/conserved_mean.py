"""Conserved mean: fields whose integral over the domain does not change, such as mass in a closed box."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import PhysicalFields, levels_of
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError


class ConservedMean(Config):
    """The mean over the grid, weighted by area, stays what it was before the step.

    It holds where nothing passes the boundaries and there are no sources: in a periodic box, between walls, on the
    sphere. Whether that is so is for the user to know.

    Attributes:
        variables: names, for all of their levels, each of which keeps its own mean; or keys.
        correction: `shift` adds one number everywhere, `scale` multiplies by one, which leaves positive fields so.
    """

    kind: Literal["conserved_mean"] = "conserved_mean"
    variables: tuple[str, ...] = Field(min_length=1)
    correction: Literal["shift", "scale"] = "shift"

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return self.variables

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset, which has some of the variables.

        Raises:
            ConfigError: one of them is not an input, so that its mean before is not known.
        """
        channels = [channel for name in self.variables for channel in levels_of(name, dataset.outputs)]
        for channel in channels:
            if channel.variable.key not in dataset.inputs:
                raise ConfigError(
                    f"constraints: conserved_mean: {channel.variable.key} is no input of {dataset.layout.dataset},"
                    " so that its mean before a step is not known"
                )

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            for channel in channels:
                found_BHW = after.read(channel)
                wanted, found = (
                    weights.mean(values, [channel]) for values in (before.read(channel), found_BHW)
                )
                after.write(channel, _corrected(found_BHW, wanted, found, scale=self.correction == "scale"))

        return correct


def _corrected(found_BHW: Tensor, wanted: Tensor, found: Tensor, *, scale: bool) -> Tensor:
    shifted_BHW = found_BHW + (wanted - found)
    if not scale:
        return shifted_BHW
    # A field that is zero throughout has no factor that gives it a mean.
    zero = found == 0
    return torch.where(zero, shifted_BHW, found_BHW * (wanted / torch.where(zero, 1.0, found)))
