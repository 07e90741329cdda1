"""Rounding: what keeping channels in 16 bits has changed in them, merged over the parts of a build.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Float32s, Floats


@dataclass(frozen=True, eq=False)
class Rounding:
    """Errors of the values that are not NaN: (C,) float64 arrays, one entry a channel.

    Attributes:
        count: number of values.
        squares: sum of the squared errors.
        largest: the largest absolute error.
        increments: number of differences between consecutive frames.
        increment_squares: sum of the squared errors of these differences.
    """

    count: Floats
    squares: Floats
    largest: Floats
    increments: Floats
    increment_squares: Floats

    @classmethod
    def none(cls, num_channels: int) -> Self:
        """That of no values at all."""
        return cls(*(np.zeros(num_channels) for _ in fields(cls)))

    @property
    def rms(self) -> Floats:
        """(C,) root mean square of the errors; 0 where there are no values."""
        return np.asarray(np.sqrt(self.squares / np.maximum(self.count, 1)))

    @property
    def increment_rms(self) -> Floats:
        """(C,) root mean square of the errors of differences between consecutive frames."""
        return np.asarray(np.sqrt(self.increment_squares / np.maximum(self.increments, 1)))

    def add(self, channel: int, errors_HW: Float32s, *, increment: bool = False) -> None:
        """Count the errors of one more field, or of one more difference of two."""
        errors = errors_HW[~np.isnan(errors_HW)].astype(np.float64)
        count, squares = (
            (self.increments, self.increment_squares) if increment else (self.count, self.squares)
        )
        count[channel] += errors.size
        squares[channel] += np.square(errors).sum()
        if not increment:
            self.largest[channel] = max(self.largest[channel], np.abs(errors).max(initial=0.0))

    def merge(self, other: Self) -> Self:
        """That of both sets of values together."""
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return type(self)(**{**sums, "largest": np.maximum(self.largest, other.largest)})

    def to_json(self) -> dict[str, list[float]]:
        """A JSON object from which `from_json` makes an equal one."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{name: np.array(numbers, np.float64) for name, numbers in values.items()})


def shares(errors: Floats, deviations: Floats) -> NDArray[np.float64]:
    """(C,) errors as shares of deviations; 0 where there are none of either."""
    return np.divide(errors, deviations, out=np.zeros(len(errors)), where=deviations > 0)
