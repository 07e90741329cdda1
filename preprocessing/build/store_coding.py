"""Store coding: how a store in 16 bits keeps its channels, drawn before its first shard and recorded for all workers.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self

import numpy as np

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.build.plan import Plan
from pelagos.preprocessing.channel_statistics.rounding import Rounding
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.solar_forcing import forcing_bound
from pelagos.preprocessing.fields.store_channel import StoreChannel
from pelagos.preprocessing.fields.survey import ChannelSurvey, survey_fields
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.quantities.dates import is_dated
from pelagos.preprocessing.store.coding import REACH, Coding, Halves

CODING = Path("_build", "coding.json")
"""Where a growing store records it."""
_TIMES, _STARTS = 32, 4
"""At how many times, of how many forecasts, computed forcings are looked at."""


@dataclass(frozen=True, eq=False)
class StoreCoding:
    """The coding of both arrays of a store.

    Attributes:
        state: of the channels that depend on time.
        static: of the static ones.
    """

    state: Coding
    static: Coding

    @classmethod
    def drawn(cls, plan: Plan) -> "StoreCoding | None":
        """From the frames that the survey reads, which are the same for every worker; None of a store in float32.

        Raises:
            DamagedFileError: a frame that the survey reads cannot be read.
            DataError: 16 bits cannot hold the usual values of a channel.
        """
        if plan.config.dtype == "float32":
            return None
        survey, fields = plan.survey or survey_fields(plan.fields), plan.fields
        known = {one.variable.key: _Spread.surveyed(one) for one in survey.channels}
        known |= {channel.variable.key: one for channel, one in _computed(fields)}
        return cls(_coding(fields.state, known), _coding(fields.static, known))

    def write(self, root: Path) -> None:
        """Record it in a growing store."""
        durable.write_bytes(root / CODING, json.dumps(self.to_json()).encode())

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` makes an equal coding."""
        return {"state": self.state.to_json(), "static": self.static.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`; further entries are passed over."""
        return cls(Coding.from_json(values["state"]), Coding.from_json(values["static"]))


def recorded_rounding(
    coding: StoreCoding | None, rounding: tuple[Rounding, Rounding] | None
) -> dict[str, Any] | None:
    """What a store records of its coding and of the errors made, array by array and channel by channel."""
    if coding is None or rounding is None:
        return None
    return {
        name: {
            **one.to_json(),
            "rms_error": errors.rms.tolist(),
            "largest_error": errors.largest.tolist(),
            "increment_rms_error": errors.increment_rms.tolist(),
        }
        for name, one, errors in zip(
            ("state", "static"), (coding.state, coding.static), rounding, strict=True
        )
    }


def read_coding(root: Path) -> StoreCoding | None:
    """What a growing store records; None where it is in float32."""
    try:
        return StoreCoding.from_json(json.loads((root / CODING).read_bytes()))
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class _Spread:
    """Where the values of a channel lie.

    Attributes:
        mean: of the usual ones.
        std: their standard deviation.
        farthest: how far from the mean others lie; 0 where there are none.
    """

    mean: float
    std: float
    farthest: float = 0.0

    @classmethod
    def surveyed(cls, found: ChannelSurvey) -> Self:
        """That of a field that the survey has read."""
        # Usual values that are all equal have no digits to lose.
        if (
            not found.outliers
            or not found.usual_std > 0
            or not np.isfinite([found.minimum, found.maximum]).all()
        ):
            return cls(found.mean, found.std)
        reach = max(found.maximum - found.usual_mean, found.usual_mean - found.minimum)
        return cls(found.usual_mean, found.usual_std, reach)

    @classmethod
    def computed(cls, mean: float, std: float, farthest: float) -> Self:
        """That of a field that follows from time and place."""
        # Kept about 0, small values of a field that crosses 0 or begins there keep their digits: the sun's at dawn.
        return cls(mean, std, farthest) if abs(mean) > 2 * std else cls(0.0, 1.0)


def _computed(fields: FieldReader) -> Iterator[tuple[StoreChannel, _Spread]]:
    """The spread of each field that follows from time and place, which no survey reads."""
    for number, values in fields.computed_static():
        mean = float(values.mean())
        farthest = float(np.abs(values - mean).max())
        yield fields.static[number], _Spread.computed(mean, float(values.std()), farthest)
    length, num = len(fields.axis), fields.num_trajectories
    times = np.unique(np.linspace(0, length - 1, _TIMES).astype(int)).tolist()
    # Of dates, all trajectories have the same; forecasts begin at different ones.
    rows = np.unique(np.linspace(0, num - 1, 1 if is_dated(fields.axis) else _STARTS).astype(int)).tolist()
    moments: dict[int, list[tuple[float, float]]] = {}
    for row, time in product(rows, times):
        for number, _, values in fields.computed(slice(row, row + 1), slice(time, time + 1)):
            moments.setdefault(number, []).append((float(values.mean()), float(values.var())))
    for number, found in moments.items():
        means, variances = np.array(found).T
        mean, std = float(means.mean()), float(np.sqrt(variances.mean() + means.var()))
        channel = fields.state[number]
        name: Any = channel.variable.name
        yield channel, _Spread.computed(mean, std, forcing_bound(name) + abs(mean))


def _coding(channels: Sequence[StoreChannel], known: dict[str, _Spread]) -> Coding:
    found = [known[channel.variable.key] for channel in channels]
    coding = Coding.about(*np.array([(one.mean, one.std, one.farthest) for one in found]).reshape(-1, 3).T)
    for channel, one, scale in zip(channels, found, coding.scale.tolist(), strict=True):
        # The least difference of two values; usual ones that it drowns would be lost without a word.
        spacing = scale * float(np.finfo(np.float16).smallest_subnormal)
        if one.std > 0 and spacing > max(one.std / 1024, abs(one.mean) / 2**24):
            why = f"with others {one.farthest:.2g} away" if one.farthest else "so close to each other"
            raise DataError(
                f"{channel.variable.key}: dtype: float16 cannot hold values of {one.mean:.4g} +- {one.std:.2g} {why};"
                " correct the source, tame it by a transform, or set dtype: float32"
            )
    return coding


def code_block(
    x_NTCHW: Float32s, coding: Coding, place: Callable[[int, int, int], str], before_CHW: Float32s | None
) -> tuple[Halves, Rounding]:
    """A block in 16 bits, and what that changed; the block itself becomes what the 16 bits hold.

    Args:
        x_NTCHW: the values, none of them infinite.
        coding: of their channels.
        place: names the trajectory, time and channel of a value, by their positions in the block.
        before_CHW: the frame before the first, where the block is a trajectory without its beginning; it becomes what
            16 bits would hold of it, too.

    Raises:
        DataError: a value lies beyond what 16 bits reach.
    """
    coded = np.empty(x_NTCHW.shape, np.float16)
    num, length, channels = x_NTCHW.shape[:3]
    rounding = Rounding.none(channels)
    # Field by field: at 0.25 degrees the errors of a whole frame would take as much as a shard.
    for n, c in np.ndindex(num, channels):
        previous = None
        if before_CHW is not None:
            original = before_CHW[c].copy()
            _code_field(before_CHW[c], coding, c)
            previous = before_CHW[c] - original
        for t in range(length):
            x_HW = x_NTCHW[n, t, c]
            original = x_HW.copy()
            coded[n, t, c] = _code_field(x_HW, coding, c)
            if (beyond := np.isinf(coded[n, t, c])).any():
                value = float(original[beyond][0])
                raise DataError(f"{place(n, t, c)}: {_advice(value, coding, c)}")
            errors = x_HW - original
            rounding.add(c, errors)
            if previous is not None:
                rounding.add(c, errors - previous, increment=True)
            previous = errors
    return coded, rounding


def _code_field(x_HW: Float32s, coding: Coding, channel: int) -> Halves:
    """A field in 16 bits; what they hold replaces its values."""
    coded = np.empty(x_HW.shape, np.float16)
    coding.encode(x_HW[None], coded[None], channel)
    coding.decode(coded[None], x_HW[None], channel)
    return coded


def _advice(value: float, coding: Coding, channel: int) -> str:
    scale, offset = float(coding.scale[channel]), float(coding.offset[channel])
    return (
        f"the value is {value:.6g}, but dtype: float16 reaches from {offset - REACH * scale:.4g} to"
        f" {offset + REACH * scale:.4g}, {REACH:.0f} units of {scale:.3g} about {offset:.6g}, which follow from the"
        " values of some frames; correct the source, tame it by a transform, or set dtype: float32"
    )
