"""Channels: the fields of a store, how they come from a source, and the options that say so."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.forcing import ForcingName
from pelagos.preprocessing.split import Range
from pelagos.preprocessing.variables import Role, Variable


class Conversion(Config):
    """A change of units: new = scale * old + offset."""

    units: str
    scale: float = 1.0
    offset: float = 0.0


class Log1p(Config):
    """ln(1 + x / scale), for fields such as precipitation that are small nearly everywhere."""

    kind: Literal["log1p"] = "log1p"
    scale: float = Field(1.0, gt=0)

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical to stored values."""
        return np.log1p(values / self.scale)

    def inverse(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Stored to physical values."""
        return np.expm1(values) * self.scale


class Subset(Config):
    """The part of the data that is taken: ranges [start, stop) and every so many frames."""

    trajectories: Range = (None, None)
    time: Range = (None, None)
    every: PositiveInt = 1


class FieldOptions(Config):
    """Which fields a store takes and in which form; names are those after `rename`.

    Attributes:
        variables: the fields taken, in this order; all by default.
        rename: new names of fields and scalars.
        roles: changed roles.
        levels: the levels taken; all by default. Each becomes a channel `name@level`.
        convert: changes of units.
        transforms: functions of the values, after the change of units.
        forcings: channels computed from time and place, for dated fields on latitudes and longitudes.
        subset: of trajectories and times.
        coarsen: side of the blocks of cells whose mean is taken.
        bits: mantissa bits kept, at most 22; all 23 by default. The error made is recorded.
        missing: whether NaN is an error or stays, as over sea; infinite values always are errors.
    """

    variables: tuple[str, ...] | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    roles: dict[str, Role] = Field(default_factory=dict)
    levels: tuple[float, ...] | None = None
    convert: dict[str, Conversion] = Field(default_factory=dict)
    transforms: dict[str, Log1p] = Field(default_factory=dict)
    forcings: tuple[ForcingName, ...] = ()
    subset: Subset = Subset()
    coarsen: PositiveInt = 1
    bits: dict[str, Annotated[int, Field(ge=1, le=22)]] = Field(default_factory=dict)
    missing: Literal["error", "keep"] = "error"


@dataclass(frozen=True)
class Channel:
    """One channel of a store and how it comes from the source.

    Attributes:
        variable: as stored.
        source: the data variable; empty for a computed forcing.
        level: position on the level axis.
        conversion: of units.
        transform: after it.
        bits: of mantissa that are kept.
        attrs: CF attributes of the source that the variable does not carry.
    """

    variable: Variable
    source: str
    level: int | None = None
    conversion: Conversion | None = None
    transform: Log1p | None = None
    bits: int | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)

    def finish(self, values: NDArray[Any]) -> NDArray[Any]:
        """Source to stored values, before rounding."""
        if self.conversion is not None:
            values = values.astype(np.float64) * self.conversion.scale + self.conversion.offset
        if self.transform is not None:
            values = self.transform.forward(values.astype(np.float64))
        return values
