"""Surface flux: a field of what passes a surface in a step, given as a rate or as an amount.

Shapes: B samples, H rows, W columns.
"""

from dataclasses import dataclass
from typing import Literal, Self

from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.physical_fields import Channel, PhysicalFields
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities.units import Unit, parse_unit

Amount = Literal["kg m-2", "J m-2"]
DENSITY_OF_WATER = 1000.0
"""[kg m-3]: archives give rain as a depth of water."""


@dataclass(frozen=True)
class SurfaceFlux:
    """How a field becomes an amount over the step.

    Attributes:
        channel: of the field.
        factor: of its values.
        seconds: in the dataset's unit of time where the field is a rate, otherwise 0.
    """

    channel: Channel
    factor: float
    seconds: float = 0.0

    @classmethod
    def of(cls, dataset: ConstrainedDataset, name: str, kind: str, amount: Amount) -> Self:
        """The flux of a field.

        Raises:
            ConfigError: there is no such field, or its units are neither of an amount nor of a rate.
        """
        channel = dataset.single(name, kind)
        unit, wanted = parse_unit(channel.variable.units), parse_unit(amount)
        water = amount == "kg m-2"
        for found, rate in ((unit, False), (_times_second(unit), True)):
            factor = _ratio(found, wanted)
            depth = parse_unit("m")
            if factor is None and water and found.dimension == depth.dimension:
                factor = found.factor * DENSITY_OF_WATER
            if factor is not None:
                return cls(channel, factor, _seconds(dataset, kind) if rate else 0.0)
        raise ConfigError(
            f"constraints: {kind} needs {channel.variable.key} as an amount over the step ({amount}"
            f"{', m of water' if water else ''}) or as a rate of it; it is in {channel.variable.units}"
        )

    def read(self, fields: PhysicalFields, duration_B: Tensor) -> Tensor:
        """(B, H, W) the amount over the step."""
        return fields.read(self.channel) * self._factors(duration_B)

    def write(self, fields: PhysicalFields, amount_BHW: Tensor, duration_B: Tensor) -> None:
        """Give the field the values of this amount."""
        fields.write(self.channel, amount_BHW / self._factors(duration_B))

    def _factors(self, duration_B: Tensor) -> Tensor | float:
        if not self.seconds:
            return self.factor
        return self.factor * self.seconds * duration_B.double()[:, None, None]


def _times_second(unit: Unit) -> Unit:
    kg, m, s, *others = unit.dimension
    return Unit(unit.factor, (kg, m, s + 1, others[0], others[1], others[2], others[3]))


def _ratio(unit: Unit, wanted: Unit) -> float | None:
    return unit.factor / wanted.factor if unit.dimension == wanted.dimension else None


def _seconds(dataset: ConstrainedDataset, kind: str) -> float:
    unit = parse_unit(dataset.time_units or "1")
    if unit.dimension != parse_unit("s").dimension:
        raise ConfigError(
            f"constraints: {kind} has fluxes, and the times of {dataset.layout.dataset} are in"
            f" {dataset.time_units or 'no unit'}, not in seconds or hours"
        )
    return unit.factor
