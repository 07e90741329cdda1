"""Measures: what one part of a build contributes to the statistics of the whole store.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Flags, Float32s, Floats
from pelagos.preprocessing.channel_statistics.moments import (
    Moments,
    merge_moments,
    moments_of,
    tendency_moments_of,
)


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of the training frames of one part, or of several.

    Attributes:
        state: moments of the channels that depend on time.
        tendency: moments of the differences between consecutive frames that both train.
        static: moments of the static channels.
        mask: (C, H, W) where any frame has a value.
        num_missing: number of NaN in all frames that exist, in training and elsewhere.
    """

    state: Moments
    tendency: Moments
    static: Moments
    mask: Flags
    num_missing: int

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` restores the measures to the last bit."""
        return {
            "state": self.state.to_json(),
            "tendency": self.tendency.to_json(),
            "static": self.static.to_json(),
            "mask": base64.b64encode(zlib.compress(np.packbits(self.mask).tobytes())).decode(),
            "num_missing": self.num_missing,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], frame: tuple[int, ...]) -> "Measures":
        """Restore what `to_json` made, for frames of shape (C, H, W)."""
        # Bits, compressed: the mask of 69 channels of 721 x 1440 points takes 9 MB even as bits.
        packed = np.frombuffer(zlib.decompress(base64.b64decode(values["mask"])), np.uint8)
        return cls(
            state=Moments.from_json(values["state"]),
            tendency=Moments.from_json(values["tendency"]),
            static=Moments.from_json(values["static"]),
            mask=np.unpackbits(packed, count=int(np.prod(frame))).astype(bool).reshape(frame),
            num_missing=values["num_missing"],
        )


def merge_measures(parts: Iterable[Measures]) -> Measures:
    """The measures of all parts together, of which there is at least one; their order decides the last bits.

    Masks are merged one by one into the first's copy: at 0.25 degrees with 70 channels each takes 72 MB.
    """
    parts = iter(parts)
    total = next(parts)
    # Merged into an empty one, as all others are, so that the bits do not depend on how many parts there are.
    state, tendency, static = (
        merge_moments([moments], len(moments.count))
        for moments in (total.state, total.tendency, total.static)
    )
    mask, num_missing = total.mask.copy(), total.num_missing
    for part in parts:
        state, tendency = state.merge(part.state), tendency.merge(part.tendency)
        static = static.merge(part.static)
        mask |= part.mask
        num_missing += part.num_missing
    return Measures(state, tendency, static, mask, num_missing)


def statistics_of(measures: Measures) -> dict[str, NDArray[Any]]:
    """A store's statistics by name, with the prefix `tendency_` or `static_` where they are of those.

    A channel that is constant up to rounding gets the standard deviation 1.
    """
    state, static = measures.state, measures.static
    return {
        **_described("", state, state.magnitude),
        **_described("tendency_", measures.tendency, state.magnitude),
        **_described("static_", static, static.magnitude),
    }


def _described(prefix: str, moments: Moments, magnitude: Floats) -> dict[str, NDArray[Any]]:
    empty, constant = moments.count == 0, moments.constant(magnitude)
    arrays = {
        "count": moments.count,
        "mean": moments.mean,
        "std": np.where(constant, 1.0, np.sqrt(moments.variance)),
        "minimum": np.where(empty, np.nan, moments.minimum),
        "maximum": np.where(empty, np.nan, moments.maximum),
        "constant": constant,
    }
    return {prefix + name: values for name, values in arrays.items()}


def measure_block(
    block: Float32s,
    static: Float32s,
    training: Flags,
    present: Flags,
    before: Float32s,
    before_training: Flags,
) -> Measures:
    """The measures of one part.

    Args:
        block: (N, T, C, H, W) its frames.
        static: (N, C, H, W) static fields that this part, and no other, counts.
        training: (N, T) which frames train.
        present: (N, T) which frames exist; NaN elsewhere do not count as missing.
        before: (N, C, H, W) the frame before each block, for the first difference; N is 0 where there are none.
        before_training: (N,) whether those frames train.
    """
    tendencies = [tendency_moments_of(run) for run in _runs(block, training)]
    for n in range(len(before)):
        if before_training[n] and training[n, 0]:
            tendencies.append(tendency_moments_of(np.stack([before[n], block[n, 0]])))
    num_channels = block.shape[2]
    # Channel by channel: a mask of the whole block would take a quarter of its memory.
    num_missing = sum(
        int(np.isnan(block[n, t, c]).sum()) for n, t in np.argwhere(present) for c in range(num_channels)
    )
    return Measures(
        state=merge_moments((moments_of(run) for run in _runs(block, training)), num_channels),
        tendency=merge_moments(tendencies, num_channels),
        static=moments_of(static),
        # Without missing values the mask need not be searched for.
        mask=_ever_present(block, training) if num_missing else np.full(block.shape[2:], training.any()),
        num_missing=num_missing,
    )


def _runs(block: Float32s, training: Flags) -> Iterator[Float32s]:
    """Runs (T', C, H, W) of consecutive training frames."""
    for n, flags in enumerate(training):
        edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
        for start, stop in edges.reshape(-1, 2):
            yield block[n, start:stop]


def _ever_present(block: Float32s, training: Flags) -> Flags:
    mask = np.zeros(block.shape[2:], bool)
    for n, t in np.argwhere(training):
        mask |= np.isfinite(block[n, t])
    return mask
