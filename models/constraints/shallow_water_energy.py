"""Shallow-water energy: that of a layer of fluid, which no forecast adds to and, with little damping, none loses.

A network's errors feed or starve the largest waves by a little at each step, and nothing but a budget keeps two hundred
steps from adding up.

Source: Vallis, Atmospheric and Oceanic Fluid Dynamics (2nd edition, 2017), section 3.4: the energy of a column is
h v^2 / 2 + g h^2 / 2.

Shapes: B samples, H rows, W columns.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import Channel, PhysicalFields
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities.units import conversion

_ITERATIONS = (
    12  # of Newton's method, which doubles the digits near a root; forecasts begin within a percent of it
)

_UNITS = ("m", "m s-1", "m s-1")


class ShallowWaterEnergy(Config):
    """The mean energy of a layer of fluid stays what it was before the step.

    Winds and deviations of the height from its mean are multiplied by one number, which leaves the mean as it is.

    Attributes:
        height: name of the layer's depth.
        wind: names of the components of its velocity.
        gravity: [m s-2].
    """

    kind: Literal["shallow_water_energy"] = "shallow_water_energy"
    height: str = "height"
    wind: tuple[str, str] = ("velocity_x", "velocity_y")
    gravity: float = Field(default=9.80616, gt=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """The field without which a dataset has nothing to constrain."""
        return (self.height,)

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset that has the height.

        Raises:
            ConfigError: the grid is a part of the sphere, or a field is missing, on several levels, no input or of
                units that measure something else.
        """
        dataset.check_global(self.kind)
        names = (self.height, *self.wind)
        channels = [dataset.single(name, self.kind) for name in names]
        sources = [dataset.single(name, self.kind, "inputs") for name in names]
        for channel, units in zip((*channels, *sources), 2 * _UNITS, strict=True):
            _check_units(channel, units)

        def parts(at: list[Tensor], weights: PointWeights) -> tuple[Tensor, Tensor, Tensor]:
            """The mean height, and the energies that go with the square and the cube of the waves' size."""
            height, *wind = at
            mean = weights.mean(height, channels)
            squares = wind[0] ** 2 + wind[1] ** 2
            waves = height - mean
            square = weights.mean(mean * squares + self.gravity * waves**2, channels) / 2
            return mean, square, weights.mean(waves * squares, channels) / 2

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            _, *known = parts([before.read(*pair) for pair in zip(sources, _UNITS, strict=True)], weights)
            found = [after.read(*pair) for pair in zip(channels, _UNITS, strict=True)]
            mean, square, cube = parts(found, weights)
            factor = _factor(square, cube, known[0] + known[1])
            made = [mean + factor * (found[0] - mean), *(factor * values for values in found[1:])]
            for channel, values, units in zip(channels, made, _UNITS, strict=True):
                after.write(channel, values, units)

        return correct


def _check_units(channel: Channel, units: str) -> None:
    try:
        conversion(channel.variable.units, units)
    except ConfigError as error:
        raise ConfigError(
            f"constraints: shallow_water_energy: {channel.variable.key} is needed in {units}: {error}"
        ) from error


def _factor(square: Tensor, cube: Tensor, energy: Tensor) -> Tensor:
    """(B, 1, 1) the s near 1 with square s^2 + cube s^3 = energy; 1 where nothing moves."""
    still = square <= 0
    square = square.where(~still, 1.0)
    factor = (energy / square).clamp(min=0).sqrt()
    for _ in range(_ITERATIONS):
        slope = 2 * square * factor + 3 * cube * factor**2
        change = (square * factor**2 + cube * factor**3 - energy) / slope.where(slope != 0, 1.0)
        factor = factor - change
    return factor.where(~still, 1.0)
