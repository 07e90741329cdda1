"""Band-limited: fields of the sphere without the small waves that their grid cannot carry through products.

A network's errors at the scale of the grid, and at the poles where longitudes crowd, would otherwise enter the next
step and grow there. The triangular truncation of spectral models removes them.

Source: Orszag, Elimination of aliasing in finite-difference schemes (J. Atmos. Sci. 28, 1971, 1074), whose two thirds
the default is.

Shapes: B samples, H rows, W columns.
"""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import PhysicalFields, levels_of
from pelagos.models.layers.spherical_transform import gaussian_grid
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.physics.spherical_modes import cached_modes

_SLACK = 1e-3  # degrees: latitudes may be rounded


class BandLimited(Config):
    """Fields keep the spherical harmonics below a degree; winds those of their vorticity and divergence.

    It needs Gaussian latitudes of the whole sphere, fields without missing points, and the extra `sphere`.

    Attributes:
        variables: names of scalar fields, for all of their levels, or keys.
        winds: pairs of names of eastward and northward components.
        degrees: the first degree that is left out; by default a third of the rows, rounded up, so that products of two
            fields are free of aliasing.
    """

    kind: Literal["band_limited"] = "band_limited"
    variables: tuple[str, ...] = ()
    winds: tuple[tuple[str, str], ...] = ()
    degrees: int | None = Field(default=None, gt=1)

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return (*self.variables, *(name for pair in self.winds for name in pair))

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset, which has some of the variables.

        Raises:
            ConfigError: the grid has no such harmonics, a wind lacks a component, or torch-harmonics is not installed.
        """
        grid, degrees = dataset.layout.grid, self.degrees
        _check_grid(dataset)
        scalars = [channel for name in self.variables for channel in levels_of(name, dataset.outputs)]
        winds = [
            pair
            for east, north in self.winds
            for pair in zip(dataset.levels(east, self.kind), dataset.levels(north, self.kind), strict=True)
        ]

        def turned(fields: Tensor) -> Tensor:
            # Rows from north to south, as the transforms count them, and back.
            return fields.flip(-2) if grid.y[0] < grid.y[-1] else fields

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            modes = cached_modes(grid.shape, 1.0, torch.float64, after.device, degrees)
            for channel in scalars:
                field_BHW = turned(after.read(channel))
                after.write(channel, turned(modes.backward(modes.forward(field_BHW))))
            for pair in winds:
                wind_B2HW = turned(after.profile(pair))
                after.write_profile(pair, turned(modes.wind(*modes.curl_and_divergence(wind_B2HW))))

        return correct


def _check_grid(dataset: ConstrainedDataset) -> None:
    """Refuse grids on which harmonics are not exact; see `BandLimited.build`."""
    dataset.check_global("band_limited")
    grid = dataset.layout.grid
    gaussian, _ = gaussian_grid(len(grid.y))
    if np.abs(np.sort(grid.y) - np.sort(gaussian)).max() > _SLACK:
        raise ConfigError(
            f"constraints: band_limited: the latitudes of {dataset.layout.dataset} are not Gaussian, so that harmonics"
            " of its fields are not exact: regrid to Gaussian latitudes, or leave the constraint out there"
        )
