"""Coding: how float32 values are kept in 16 bits, each channel about an offset and in units of a scale.

float16 rather than bfloat16: once values are scaled they need its 11 bits, not the other's range, and plain Zarr knows
it. Shapes: C channels, H rows, W columns.
"""

from dataclasses import dataclass
from math import floor, frexp
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Float32s

Halves = NDArray[np.float16]
REACH = float(np.finfo(np.float16).max)
"""How many scales from the offset a value may lie."""
_ROOM = 2048.0
"""The farthest outlier lies less than twice as many scales from the offset."""
_NOISE = 1e-13
"""What adding up equal values in float64 may leave as their deviation, in units of their magnitude."""


@dataclass(frozen=True, eq=False)
class Coding:
    """How channels are coded: value = coded * scale + offset, in float32.

    Attributes:
        scale: (C,) powers of two, so that the product is exact and every device decodes to the same bits.
        offset: (C,) multiples of the power of two below the deviation, where float32 can tell them apart, so that masks
            and counts stay exact.
    """

    scale: Float32s
    offset: Float32s

    @classmethod
    def about(
        cls,
        means: NDArray[np.float64],
        stds: NDArray[np.float64],
        farthest: NDArray[np.float64] | None = None,
    ) -> Self:
        """For channels of about these means and deviations.

        Args:
            means: (C,) NaN where nothing is known of a channel.
            stds: (C,) their deviations.
            farthest: (C,) how far from the mean single values are known to lie; 0 by default.
        """
        far = np.zeros(len(means)) if farthest is None else farthest
        pairs = [_scale_of(*one) for one in zip(means.tolist(), stds.tolist(), far.tolist(), strict=True)]
        scale, offset = np.array(pairs, np.float32).reshape(-1, 2).T
        return cls(np.ascontiguousarray(scale), np.ascontiguousarray(offset))

    def encode(self, x: Float32s, coded: Halves, first: int = 0) -> None:
        """Write channels (C, ...), of which the first has this number, in 16 bits.

        What lies beyond their reach becomes infinite, and NaN stays.
        """
        with np.errstate(over="ignore"):
            for number, values in enumerate(x, first):
                coded[number - first] = (values - self.offset[number]) / self.scale[number]

    def decode(self, coded: Halves, out: Float32s, first: int = 0) -> None:
        """Write the values of channels (C, ...), of which the first has this number."""
        for number, values in enumerate(out, first):
            values[:] = coded[number - first]
            values *= self.scale[number]
            values += self.offset[number]

    def select(self, channels: list[int]) -> "Coding":
        """That of some of the channels, in their order."""
        return Coding(self.scale[channels], self.offset[channels])

    def join(self, *others: "Coding") -> "Coding":
        """That of these channels, and then of others."""
        parts = (self, *others)
        return Coding(
            np.concatenate([one.scale for one in parts]), np.concatenate([one.offset for one in parts])
        )

    def to_json(self) -> dict[str, list[float]]:
        """A JSON object from which `from_json` makes an equal coding."""
        return {"scale": self.scale.tolist(), "offset": self.offset.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(np.array(values["scale"], np.float32), np.array(values["offset"], np.float32))


def _scale_of(mean: float, std: float, farthest: float) -> tuple[float, float]:
    if not _NOISE * abs(mean) < std < np.inf:
        return _scale_of_one(float(np.float32(mean)))
    step = 2.0 ** _exponent(std)
    # Few values far from all others must be in reach, with room for some that are farther yet. Usual ones lose nothing
    # by a larger scale, float16 being a floating type down to 2^-14; by an offset away from them they would.
    scale = step if not farthest else max(step, 2.0 ** _exponent(farthest / _ROOM))
    return scale, floor(mean / step + 0.5) * step


def _scale_of_one(value: float) -> tuple[float, float]:
    """Of a channel with one value, or none: about zero, unless only the offset holds the value exactly."""
    if not 0 < abs(value) < np.inf:
        return 1.0, 0.0
    scale = 2.0 ** _exponent(abs(value))
    return scale, 0.0 if float(np.float16(value / scale)) * scale == value else value


def _exponent(value: float) -> int:
    """Of the power of two at or below a value; of those whose inverse float32 holds, too."""
    return max(-100, min(frexp(value)[1] - 1, 100))
