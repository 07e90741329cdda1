"""FieldOptions: which fields a store takes from a source, and in which form."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.accumulation import Accumulation
from pelagos.preprocessing.fields.regrid import Regrid
from pelagos.preprocessing.fields.solar_forcing import ForcingName, PlaceName
from pelagos.preprocessing.fields.store_channel import LinearConversion
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.store.split import AxisRange
from pelagos.preprocessing.transform import Transform
from pelagos.preprocessing.variables import Role


class Conversion(Config):
    """A change of units: new = scale * old + offset. Both follow from the units unless one of them is given.

    In YAML the new units alone suffice: `air_temperature: degC`.

    Attributes:
        units: the new units.
        scale: factor, where the units do not say it; 1 if only the offset is given.
        offset: summand in the new units; 0 if only the scale is given.
    """

    units: str
    scale: float | None = None
    offset: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_units(cls, value: Any) -> Any:
        return {"units": value} if isinstance(value, str) else value

    def build(self, name: str, units: str) -> LinearConversion:
        """The conversion of a field from its units.

        Raises:
            ConfigError: neither number is given, and a unit is unknown or the two measure different things.
        """
        if self.scale is None and self.offset is None:
            try:
                return LinearConversion(*conversion(units, self.units))
            except ConfigError as error:
                raise ConfigError(
                    f"convert.{name}: {error}; to convert nevertheless, give {{units: {self.units}, scale: ...}}"
                ) from error
        return LinearConversion(1.0 if self.scale is None else self.scale, self.offset or 0.0)


class Subset(Config):
    """The part of the data that a store takes.

    Attributes:
        trajectories: [start, stop) as positions.
        time: [start, stop) as positions or ISO dates.
        times: smallest and largest value on a time axis without dates, both included.
        every: one of this many frames is taken.
        level: smallest and largest level, both included.
        y: smallest and largest coordinate of rows, both included; latitudes in degrees.
        x: smallest and largest coordinate of columns, both included; longitudes from west to east, across the
            date line where need be: [170, -170].
    """

    trajectories: AxisRange = (None, None)
    time: AxisRange = (None, None)
    times: tuple[float, float] | None = None
    every: PositiveInt = 1
    level: tuple[float, float] | None = None
    y: tuple[float, float] | None = None
    x: tuple[float, float] | None = None


def _kinded(value: Any) -> Any:
    """A transform that gives no kind is a logarithm, which was the only one for a while."""
    return {"kind": "log1p", **value} if isinstance(value, dict) else value


class FieldOptions(Config):
    """Which fields a store takes and in which form; all names are those after `rename`.

    Attributes:
        variables: the fields to take, in this order; all by default.
        rename: new names of fields and scalars.
        roles: roles that differ from the source's.
        levels: the levels to take; all by default. Each becomes a channel `name@level`.
        deaccumulate: fields that are sums since the start of a forecast or a day, to be sums of each step.
        convert: changes of units.
        transforms: functions of the values after the change of units; forecasts and scores undo them.
        forcings: channels computed from time and place, for dated fields on latitudes and longitudes: the sun's hour
            and season, and its radiation at the top of the atmosphere, at the time and from the frame before.
        places: static channels computed from latitudes and longitudes.
        subset: the part of trajectories, times, levels and the grid to take.
        regrid: another grid, after `subset`.
        coarsen: side of the blocks of cells to average, instead of `regrid`.
        bits: mantissa bits to keep, at most 22; all 23 by default. The largest error is recorded.
        missing: whether NaN is an error or stays, as over sea; infinite values always are errors.
        marks: values of fields, in the source's units, that stand for missing ones and become NaN.
    """

    variables: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    roles: dict[str, Role] = Field(default_factory=dict)
    levels: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    deaccumulate: dict[str, Accumulation] = Field(default_factory=dict)
    convert: dict[str, Conversion] = Field(default_factory=dict)
    transforms: dict[str, Annotated[Transform, BeforeValidator(_kinded)]] = Field(default_factory=dict)
    forcings: tuple[ForcingName, ...] = ()
    places: tuple[PlaceName, ...] = ()
    subset: Subset = Subset()
    regrid: Regrid | None = None
    coarsen: PositiveInt = 1
    bits: dict[str, Annotated[int, Field(ge=1, le=22)]] = Field(default_factory=dict)
    missing: Literal["error", "keep"] = "error"
    marks: dict[str, tuple[float, ...]] = Field(default_factory=dict)
