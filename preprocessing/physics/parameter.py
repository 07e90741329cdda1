"""Parameter: a number of an equation that is fixed, or drawn for each trajectory."""

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, model_validator

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.config import Config


class Range(Config):
    """An interval from which each trajectory draws its own value.

    Attributes:
        low: smallest value.
        high: largest value.
        scale: `linear` draws uniformly, `log` draws the logarithm uniformly.
    """

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _is_an_interval(self) -> "Range":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, not {self.low:g}")
        return self

    def at(self, share: float | Floats) -> Floats:
        """The values at shares of the way from `low`, 0, to `high`, 1."""
        if self.scale == "log":
            return np.asarray(np.exp(np.log(self.low) + share * (np.log(self.high) - np.log(self.low))))
        return np.asarray(self.low + share * (self.high - self.low))


def bounds(parameter: float | Range) -> tuple[float, float]:
    """The smallest and the largest value of a parameter."""
    return (parameter.low, parameter.high) if isinstance(parameter, Range) else (parameter, parameter)


def stated_value(config: Config, name: str) -> float | Range | None:
    """What an equation's configuration says of a scalar; its defaults say nothing of somebody's data."""
    given = getattr(config, name, None) if name in config.model_fields_set else None
    return given if isinstance(given, float | int | Range) else None


def contradicts(parameter: float | Range, values: Floats) -> bool:
    """Whether any of some values is none of the parameter's, to the single precision of most archives."""
    low, high = bounds(parameter)
    return bool(((values < low - 1e-6 * abs(low)) | (values > high + 1e-6 * abs(high))).any())


def span(low: float, high: float) -> str:
    """An interval for messages.

    >>> span(1, 1), span(0.5, 2)
    ('1', '0.5 to 2')
    """
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def draw(parameter: float | Range, rng: np.random.Generator) -> float:
    """A value of a parameter; a fixed one takes no random number."""
    if not isinstance(parameter, Range):
        return parameter
    return float(parameter.at(rng.random()))


def _positive(parameter: float | Range) -> float | Range:
    if bounds(parameter)[0] <= 0:
        raise ValueError(f"must be positive, not {bounds(parameter)[0]:g}")
    return parameter


def _not_negative(parameter: float | Range) -> float | Range:
    if bounds(parameter)[0] < 0:
        raise ValueError(f"must not be negative, not {bounds(parameter)[0]:g}")
    return parameter


Parameter = float | Range
Positive = Annotated[Parameter, AfterValidator(_positive)]
NotNegative = Annotated[Parameter, AfterValidator(_not_negative)]
