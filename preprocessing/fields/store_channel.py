"""StoreChannel: one channel of a store, and how its values come from a source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.variables import Variable


@dataclass(frozen=True)
class LinearConversion:
    """The map of x to scale * x + offset."""

    scale: float
    offset: float

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Convert values, in float64."""
        # float32 would keep only two decimals of a pressure after an offset of 1e5.
        return values.astype(np.float64) * self.scale + self.offset


@dataclass(frozen=True)
class StoreChannel:
    """One channel of a store and how it comes from the source.

    Attributes:
        variable: the variable that is stored.
        source: name of the source's data variable; empty for a computed field.
        level: position on the source's level axis; None for a field without levels.
        conversion: change of units, made before the variable's transform.
        bits: number of mantissa bits to keep; None for all.
        attrs: attributes of the source that the variable itself does not carry.
    """

    variable: Variable
    source: str
    level: int | None = None
    conversion: LinearConversion | None = None
    bits: int | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)

    @property
    def stored_as_is(self) -> bool:
        """Whether values are stored as they are in the source."""
        return self.conversion is None and self.variable.transform is None

    def to_stored(self, values: NDArray[Any]) -> NDArray[Any]:
        """Source to stored values, before rounding."""
        if self.conversion is not None:
            values = self.conversion(values)
        if self.variable.transform is not None:
            values = self.variable.transform.forward(values.astype(np.float64))
        return values

    def to_source(self, stored: float) -> float:
        """One stored value as it is in the source."""
        value = np.array([stored], np.float64)
        if self.variable.transform is not None:
            value = self.variable.transform.inverse(value)
        if self.conversion is not None:
            value = (value - self.conversion.offset) / self.conversion.scale
        return float(value[0])
