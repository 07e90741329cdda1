"""Store coding: how a store in 16 bits keeps its channels, drawn before its first shard and recorded for all workers.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.build.plan import Plan
from pelagos.preprocessing.channel_statistics.rounding import Rounding
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.fields.store_channel import StoreChannel
from pelagos.preprocessing.fields.survey import ChannelSurvey, survey_fields
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.store.coding import REACH, Coding, Halves

CODING = Path("_build", "coding.json")
"""Where a growing store records it."""


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
        """
        if plan.config.dtype == "float32":
            return None
        survey = plan.survey or survey_fields(plan.fields)
        known = {one.variable.key: one for one in survey.channels}
        return cls(_coding(plan.fields.state, known), _coding(plan.fields.static, known))

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


def _coding(channels: Sequence[StoreChannel], known: dict[str, ChannelSurvey]) -> Coding:
    # Computed forcings, which no survey reads, are of order 1.
    found = [known.get(channel.variable.key) for channel in channels]
    means = [one.mean if one else 0.0 for one in found]
    stds = [one.std if one else 1.0 for one in found]
    return Coding.about(np.array(means), np.array(stds))


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
