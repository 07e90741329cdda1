"""Band-limited: fields of a sphere or a periodic box without small waves that the grid cannot carry through products.

A network's errors at the scale of the grid, and at the poles where longitudes crowd, would otherwise enter the next
step and grow there. The truncation of spectral models removes them: triangular on the sphere, rectangular in a box.

Source: Orszag, Elimination of aliasing in finite-difference schemes (J. Atmos. Sci. 28, 1971, 1074), whose two thirds
the default is.

Shapes: B samples, H rows, W columns.
"""

import math
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.periodic_waves import (
    backward,
    check_periodic_box,
    counts,
    forward,
    is_periodic_box,
)
from pelagos.models.constraints.physical_fields import Channel, PhysicalFields, levels_of
from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.spherical_transform import gaussian_grid
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.spherical_modes import cached_modes

_SLACK = 1e-3  # degrees: latitudes may be rounded


class BandLimited(Config):
    """Fields keep the waves below a degree: spherical harmonics, winds those of their vorticity and divergence.

    On the sphere it needs Gaussian latitudes and the extra `sphere`; in a periodic box, where degrees count the waves
    along each axis, even rows and columns. Fields may have no missing points.

    Attributes:
        variables: names of scalar fields, for all of their levels, or keys.
        winds: pairs of names of eastward and northward components.
        degrees: the first degree that is left out; by default a third of the rows (in a box also of the columns),
            rounded up, so that products of two fields are free of aliasing.
        damping: time in which the smallest waves that are kept lose all but 1/e, in the dataset's unit of time; waves
            of half their degree take 256 times as long, as under the hyperdiffusion of a simulation (of
            `shallow_water`, 2 h), and a mean stays. What the network adds to waves that its data have next to none of
            would otherwise pile up in rollouts. Without it none are damped.
    """

    kind: Literal["band_limited"] = "band_limited"
    variables: tuple[str, ...] = ()
    winds: tuple[tuple[str, str], ...] = ()
    degrees: int | None = Field(default=None, gt=1)
    damping: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if not self.needs:
            raise ValueError("band_limited: name variables or winds")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return (*self.variables, *(name for pair in self.winds for name in pair))

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset, which has some of the variables.

        Raises:
            ConfigError: the grid has no such waves, a wind lacks a component, or torch-harmonics is not installed.
        """
        scalars = [channel for name in self.variables for channel in levels_of(name, dataset.outputs)]
        winds = dataset.vectors(self.winds, self.kind)
        if is_periodic_box(dataset):
            return self._in_a_box(
                dataset.layout.grid.shape, [*scalars, *(one for pair in winds for one in pair)]
            )
        _check_grid(dataset)
        return self._on_the_sphere(dataset.layout.grid, scalars, winds)

    def _in_a_box(self, shape: tuple[int, int], channels: Sequence[Channel]) -> Correction:
        rows_H1, columns_1K = counts(shape)
        first_y, first_x = (self.degrees or math.ceil(size / 3) for size in shape)
        kept_HK = ((rows_H1.abs() < first_y) & (columns_1K < first_x)).double()
        # Of an axis of up to three points, such as the single row of 1-D data, only the mean is kept.
        last_y, last_x = max(first_y - 1, 1), max(first_x - 1, 1)
        squares_HK = torch.maximum(rows_H1.abs() / last_y, columns_1K / last_x) ** 2

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            kept, squares = (constant(one, after.device, torch.float64) for one in (kept_HK, squares_HK))
            kept = kept * self._left(squares, duration_B)
            for channel in channels:
                after.write(channel, backward(forward(after.read(channel)) * kept, shape))

        return correct

    def _on_the_sphere(
        self, grid: Grid, scalars: Sequence[Channel], winds: Sequence[tuple[Channel, Channel]]
    ) -> Correction:
        degrees = self.degrees

        def turned(fields: Tensor) -> Tensor:
            # Rows from north to south, as the transforms count them, and back.
            return fields.flip(-2) if grid.y[0] < grid.y[-1] else fields

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            modes = cached_modes(grid.shape, 1.0, torch.float64, after.device, degrees)
            left = self._left(modes.eigenvalues / modes.eigenvalues[-1], duration_B)
            for channel in scalars:
                field_BHW = turned(after.read(channel))
                after.write(channel, turned(modes.backward(modes.forward(field_BHW) * left)))
            for pair in winds:
                parts = modes.curl_and_divergence(turned(after.profile(pair)))
                after.write_profile(pair, turned(modes.wind(*(left * part for part in parts))))

        return correct

    def _left(self, squares: Tensor, duration_B: Tensor) -> Tensor | float:
        """(B, ...) what is left of waves after a step, by the squares of their degrees in units of the largest one."""
        if self.damping is None:
            return 1.0
        times_B11 = duration_B.double()[:, None, None] / self.damping
        return torch.exp(-times_B11 * squares**4)


def _check_grid(dataset: ConstrainedDataset) -> None:
    """Refuse grids on which harmonics are not exact; see `BandLimited.build`."""
    if dataset.layout.grid.kind == "cartesian":
        check_periodic_box(dataset, "band_limited")
    dataset.check_global("band_limited")
    grid = dataset.layout.grid
    gaussian, _ = gaussian_grid(len(grid.y))
    if np.abs(np.sort(grid.y) - np.sort(gaussian)).max() > _SLACK:
        raise ConfigError(
            f"constraints: band_limited: the latitudes of {dataset.layout.dataset} are not Gaussian, so that harmonics"
            " of its fields are not exact: regrid to Gaussian latitudes, or leave the constraint out there"
        )
