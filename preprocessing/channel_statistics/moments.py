"""Moments: count, mean, variance and extremes of each channel, without missing values, and mergeable.

Shapes: N frames, C channels, H rows, W columns.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats

_SLAB = 1 << 17  # values cast to float64 at a time: a few MB, small beside a shard


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the values that are not NaN: (C,) float64 arrays, one entry a channel.

    Attributes:
        count: number of values.
        mean: their mean; 0 where there are none.
        m2: sum of their squared deviations from the mean.
        minimum: the smallest; infinity where there are none.
        maximum: the largest; minus infinity where there are none.
    """

    count: Floats
    mean: Floats
    m2: Floats
    minimum: Floats
    maximum: Floats

    @classmethod
    def none(cls, num_channels: int) -> "Moments":
        """The moments of no values at all."""
        zero, infinite = np.zeros(num_channels), np.full(num_channels, np.inf)
        return cls(zero, zero, zero, infinite, -infinite)

    @property
    def variance(self) -> Floats:
        """The population variance; 0 where there are no values."""
        return self.m2 / np.maximum(self.count, 1)

    @property
    def magnitude(self) -> Floats:
        """The largest absolute value; 0 where there are no values."""
        return np.where(self.count > 0, np.maximum(np.abs(self.minimum), np.abs(self.maximum)), 0.0)

    def constant(self, magnitude: Floats) -> NDArray[np.bool_]:
        """Where the deviation is no larger than the rounding of float32 values of this magnitude."""
        # Scaling by such a deviation would only amplify rounding. float32 rounds by up to 6e-8 of a value.
        return np.asarray(np.sqrt(self.variance) <= 1e-7 * magnitude)

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets of values together (Chan, Golub and LeVeque 1983, eq. 2.1)."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * share,
            m2=self.m2 + other.m2 + delta**2 * self.count * share,
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
        )

    def to_json(self) -> dict[str, str]:
        """The bytes of each array in base64, which keeps every bit."""
        return {
            field.name: base64.b64encode(getattr(self, field.name).astype("<f8").tobytes()).decode()
            for field in fields(self)
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Moments":
        """Restore what `to_json` made."""
        return cls(**{name: np.frombuffer(base64.b64decode(text), "<f8") for name, text in values.items()})


def merge_moments(parts: Iterable[Moments], num_channels: int) -> Moments:
    """The moments of all parts together, merged one after the other: their order decides the last bits."""
    total = Moments.none(num_channels)
    for part in parts:
        total = total.merge(part)
    return total


def moments_of(x_NCHW: NDArray[np.float32]) -> Moments:
    """The moments of N frames, in memory that does not grow with N."""
    num_frames, num_channels = x_NCHW.shape[:2]
    step = max(1, _SLAB // max(1, x_NCHW[0, 0].size)) if num_frames else 1
    slabs = (x_NCHW[start : start + step] for start in range(0, num_frames, step))
    return merge_moments((_slab_moments(slab) for slab in slabs), num_channels)


def tendency_moments_of(x_NCHW: NDArray[np.float32]) -> Moments:
    """The moments of the differences between N consecutive frames, in memory that does not grow with N."""
    num_frames, num_channels = x_NCHW.shape[:2]
    step = max(1, _SLAB // max(1, x_NCHW[0, 0].size)) if num_frames else 1
    # Slabs share a frame, so that no difference is lost between two of them.
    slabs = (x_NCHW[start : start + step + 1] for start in range(0, num_frames - 1, step))
    return merge_moments((_slab_moments(slab, difference=True) for slab in slabs), num_channels)


def _slab_moments(x_NCHW: NDArray[np.float32], *, difference: bool = False) -> Moments:
    columns = []
    for channel in range(x_NCHW.shape[1]):
        values = x_NCHW[:, channel].astype(np.float64)
        if difference:
            values = np.diff(values, axis=0)
        columns.append(_moments_of_values(values))
    return Moments(*(np.array(column) for column in zip(*columns, strict=True)))


def _moments_of_values(values: Floats) -> tuple[float, float, float, float, float]:
    minimum, maximum = values.min(), values.max()
    # A NaN anywhere makes the minimum NaN: most channels need no mask.
    if np.isnan(minimum):
        values = values[~np.isnan(values)]
        if not values.size:
            return 0.0, 0.0, 0.0, np.inf, -np.inf
        minimum, maximum = values.min(), values.max()
    # Twice over the values, since E(x²) - E(x)² loses all digits of a small variance beside a large mean.
    mean = values.mean()
    m2 = np.square(values - mean).sum()
    return float(values.size), float(mean), float(m2), float(minimum), float(maximum)
