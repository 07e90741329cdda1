"""Physical fields: what a constraint reads and changes, in physical units and double precision.

A float32 sum over a grid is right to 1e-5 at best, and would itself be the error of the budget.

Shapes: B samples, C channels, L levels, H rows, W columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.transform import Asinh, Log1p, Shift
from pelagos.preprocessing.variables import Variable


class Scale(Protocol):
    """Mean and standard deviation of a variable."""

    @property
    def mean(self) -> float:
        """In the variable's stored units."""
        ...

    @property
    def std(self) -> float:
        """In the variable's stored units."""
        ...


@dataclass(frozen=True)
class Channel:
    """Where a variable is among the channels, and how its values were made.

    Attributes:
        position: of the channel.
        variable: of it.
        mean: what was subtracted from the stored values.
        std: what they were divided by.
    """

    position: int
    variable: Variable
    mean: float
    std: float

    def physical(self, x_BHW: Tensor) -> Tensor:
        """Normalised to physical values, in double precision."""
        stored_BHW = x_BHW.double() * self.std + self.mean
        match self.variable.transform:
            case Log1p(scale=scale):
                return torch.expm1(stored_BHW) * scale
            case Asinh(scale=scale):
                return torch.sinh(stored_BHW) * scale
            case Shift(offset=offset):
                return stored_BHW + offset
            case _:
                return stored_BHW

    def normalized(self, physical_BHW: Tensor) -> Tensor:
        """The inverse of `physical`."""
        match self.variable.transform:
            case Log1p(scale=scale):
                physical_BHW = torch.log1p(physical_BHW / scale)
            case Asinh(scale=scale):
                physical_BHW = torch.asinh(physical_BHW / scale)
            case Shift(offset=offset):
                physical_BHW = physical_BHW - offset
        return (physical_BHW - self.mean) / self.std


Channels = Mapping[str, Channel]
"""Channels by the keys of their variables."""


def channels_of(variables: Sequence[Variable], scales: Mapping[str, Scale]) -> dict[str, Channel]:
    """The channels that hold these variables in order, with their scales by key."""
    return {
        one.key: Channel(place, one, scales[one.key].mean, scales[one.key].std)
        for place, one in enumerate(variables)
        if one.key in scales
    }


def levels_of(name: str, channels: Channels) -> list[Channel]:
    """The channels of a field, from its lowest level number or pressure to the highest: downwards in the atmosphere."""
    found = [
        channel for channel in channels.values() if name in (channel.variable.name, channel.variable.key)
    ]
    return sorted(found, key=lambda channel: channel.variable.level or 0.0)


class PhysicalFields:
    """The fields of one time, of which only those that are asked for are computed.

    Args:
        x_BCHW: normalised fields.
        channels: what they hold.
    """

    def __init__(self, x_BCHW: Tensor, channels: Channels) -> None:
        self._x_BCHW, self._channels = x_BCHW, channels
        self._read: dict[str, Tensor] = {}
        self._changed: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the fields are."""
        return self._x_BCHW.device

    def read(self, channel: Channel, units: str | None = None) -> Tensor:
        """(B, H, W) values of a channel, in its own units or in others."""
        key = channel.variable.key
        if key not in self._read:
            place = self._channels[key].position
            self._read[key] = self._channels[key].physical(self._x_BCHW[:, place])
        scale, offset = (1.0, 0.0) if units is None else _conversion(channel.variable, units)
        return self._read[key] * scale + offset if (scale, offset) != (1.0, 0.0) else self._read[key]

    def write(self, channel: Channel, values_BHW: Tensor, units: str | None = None) -> None:
        """Give a channel other values."""
        if units is not None:
            scale, offset = _conversion(channel.variable, units)
            values_BHW = (values_BHW - offset) / scale if (scale, offset) != (1.0, 0.0) else values_BHW
        self._read[channel.variable.key] = self._changed[channel.variable.key] = values_BHW

    def profile(self, levels: Sequence[Channel], units: str | None = None) -> Tensor:
        """(B, L, H, W) values at some levels."""
        return torch.stack([self.read(level, units) for level in levels], 1)

    def write_profile(self, levels: Sequence[Channel], values_BLHW: Tensor, units: str | None = None) -> None:
        """Give the levels of a field other values."""
        for level, values_BHW in zip(levels, values_BLHW.unbind(1), strict=True):
            self.write(level, values_BHW, units)

    def normalized(self) -> Tensor:
        """(B, C, H, W) all fields, normalised again: those that were not changed to the bit."""
        parts = list(self._x_BCHW.unbind(1))
        for key, values_BHW in self._changed.items():
            channel = self._channels[key]
            parts[channel.position] = channel.normalized(values_BHW).to(self._x_BCHW.dtype)
        return torch.stack(parts, 1) if self._changed else self._x_BCHW


def _conversion(variable: Variable, units: str) -> tuple[float, float]:
    try:
        return conversion(variable.units, units)
    except ConfigError as error:
        raise ConfigError(f"constraints: {variable.key} is needed in {units}: {error}") from error
