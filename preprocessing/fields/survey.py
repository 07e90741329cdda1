"""Survey: what the values of each channel look like, from all frames of small data and from some of large ones.

A survey sees what spoils training before it does: constant fields, digits that float32 loses, values far outside all
others, periodic axes that repeat their first point. Shapes: H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log10, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.marked_values import is_mark
from pelagos.preprocessing.fields.store_channel import StoreChannel
from pelagos.preprocessing.variables import Variable

_VALUES = 1 << 22  # 32 MB in float64, a few tenths of a second; more only where a single frame has more
_RUNS = (
    16  # of consecutive frames: to open a file again, or its next chunk, takes longer than to read on in it
)
_TAIL = 0.001  # the share of values on either side beyond which quantiles say nothing
# Hourly precipitation reaches thirty times its 99.9 % quantile; -9999 among temperatures is ninety ranges away.
_FAR = 50
_APART = 10
_LOST = 1e-3  # of the standard deviation: a field has a few hundred different values then


@dataclass(frozen=True)
class ChannelSurvey:
    """The sampled values of one channel, as they would be stored before float32 rounds them.

    Attributes:
        variable: the channel's.
        count: how many values are sampled and not missing.
        missing: the share that is NaN.
        minimum: the smallest; NaN where all are missing.
        maximum: the largest.
        mean: of the finite values.
        std: their standard deviation.
        low: the quantile of 0.1 %.
        high: the quantile of 99.9 %.
        outliers: how many values are far outside these quantiles, or far from all others.
        usual_mean: of the finite values that are no outliers.
        usual_std: their standard deviation.
        lost: the root mean square of rounding to float32, in standard deviations.
    """

    variable: Variable
    count: int
    missing: float
    minimum: float
    maximum: float
    mean: float
    std: float
    low: float
    high: float
    outliers: int
    usual_mean: float
    usual_std: float
    lost: float

    @property
    def constant(self) -> bool:
        """Whether all values are the same up to the rounding of float32, and float32 is not to blame."""
        magnitude = max(abs(self.minimum), abs(self.maximum))
        alike = self.std <= 1e-7 * magnitude < np.inf
        return self.count > 1 and alike and not self.loses

    @property
    def overflows(self) -> bool:
        """Whether float32 holds a value as infinite, or the source does, which no store may keep."""
        return bool(max(abs(self.minimum), abs(self.maximum)) > float(np.finfo(np.float32).max))

    @property
    def loses(self) -> bool:
        """Whether float32 loses what varies; a deviation within the rounding of float64 is none."""
        magnitude = max(abs(self.minimum), abs(self.maximum))
        return self.lost > _LOST and 1e-13 * magnitude < self.std < np.inf

    @property
    def offset(self) -> float:
        """A number near the mean with as few digits as the deviation allows, to subtract."""
        return round(self.mean, -floor(log10(self.std)) - 1) if self.std > 0 else self.mean

    def is_far(self, value: float) -> bool:
        """Whether a value is far outside the quantiles."""
        reach = _FAR * (self.high - self.low)
        return reach > 0 and not self.low - reach <= value <= self.high + reach


@dataclass(frozen=True)
class Survey:
    """What was found in the sampled frames.

    Attributes:
        channels: those of the state, then the static ones; computed forcings are left out.
        num_frames: how many frames were read.
        of_frames: how many there are.
        repeated: the periodic axes on which the last point has the values of the first.
    """

    channels: tuple[ChannelSurvey, ...]
    num_frames: int
    of_frames: int
    repeated: tuple[str, ...]

    @property
    def extent(self) -> str:
        """What was read, in words."""
        if self.num_frames == self.of_frames:
            return "all frames"
        return f"{self.num_frames} of {self.of_frames} frames"


def survey_fields(fields: FieldReader) -> Survey:
    """The survey of the channels that a store would have; reads all frames, or some of large data.

    Raises:
        DamagedFileError: the source cannot be read.
    """
    present, frame = fields.present, prod(fields.grid.shape)
    kept: dict[int, list[NDArray[Any]]] = {}
    ends: dict[str, list[bool]] = {}
    num_frames = 0
    # A frame that is larger than all that should be read is thinned, so that many channels of it need little memory.
    every = max(1, round((frame * len(fields.state) / _VALUES) ** 0.5))
    for trajectory, times in _runs(present, max(1, _VALUES // (frame * len(fields.state)))):
        there = present[trajectory, times]
        num_frames += int(there.sum())
        for number, values in fields.exact(trajectory, times):
            kept.setdefault(number, []).append(values[there, ::every, ::every].ravel())
            for axis, repeats in _repeats(fields, values[there]).items():
                ends.setdefault(axis, []).append(repeats)
    found = [_described(fields.state[number].variable, frames) for number, frames in sorted(kept.items())]
    for number, values in fields.exact_static(0):
        found.append(_described(fields.static[number].variable, [values[:, ::every, ::every].ravel()]))
    repeated = tuple(axis for axis, seen in ends.items() if all(seen))
    return Survey(tuple(found), num_frames, int(present.sum()), repeated)


def _runs(present: NDArray[np.bool_], most: int) -> Iterator[tuple[int, slice]]:
    """Trajectories, and frames of them, evenly spread, of about so many frames at most."""
    lasting = np.flatnonzero(present.any(axis=1))
    wanted = min(_RUNS, most)
    trajectories = lasting[np.unique(np.linspace(0, len(lasting) - 1, wanted).astype(int))]
    each = max(1, wanted // len(trajectories))
    length = max(1, most // (each * len(trajectories)))
    for trajectory in trajectories.tolist():
        frames = np.flatnonzero(present[trajectory])
        first, stop = int(frames[0]), int(frames[-1]) + 1
        if stop - first <= each * length:
            yield trajectory, slice(first, stop)
            continue
        for start in np.linspace(first, stop - length, each).astype(int).tolist():
            yield trajectory, slice(start, start + length)


@np.errstate(over="ignore", invalid="ignore")
def _repeats(fields: FieldReader, values: NDArray[Any]) -> dict[str, bool]:
    """Whether the last point of each periodic axis repeats the first; only of axes along which the values vary."""
    found = {}
    for name, axis, periodic in zip(("y", "x"), (-2, -1), fields.grid.periodic, strict=True):
        if not periodic or not values.size or values.shape[axis] < 4:
            continue
        first, second, last = (np.take(values, position, axis) for position in (0, 1, -1))
        # Of the ends alone: beside a mark such as 1e20 anywhere else, all points would seem to repeat each other.
        ends = np.stack([first, last])
        allowed = 1e-6 * np.ptp(ends) if np.isfinite(ends).all() else 0.0
        # A field that is the same in the first two points, as at rest, says nothing about the last.
        if not np.allclose(first, second, rtol=0, atol=allowed, equal_nan=True):
            found[name] = bool(np.allclose(first, last, rtol=0, atol=allowed, equal_nan=True))
    return found


# Values beyond float32, which the build refuses by their place, overflow here.
@np.errstate(over="ignore", invalid="ignore")
def _described(variable: Variable, frames: Sequence[NDArray[Any]]) -> ChannelSurvey:
    values = np.concatenate(frames)
    known = values[~np.isnan(values)]
    finite = known[np.isfinite(known)].astype(np.float64)
    if not finite.size:
        nothing = float("nan")
        return ChannelSurvey(
            variable, 0, 1.0, *(nothing,) * 6, len(known), usual_mean=nothing, usual_std=nothing, lost=0.0
        )
    low, high = np.quantile(finite, (_TAIL, 1 - _TAIL), method="nearest").tolist()
    mean, std = float(finite.mean()), float(finite.std())
    error = finite - finite.astype(np.float32)
    lost = float(np.sqrt(np.mean(np.square(error)))) / std if std else 0.0
    reach = _FAR * (high - low)
    far = (finite < low - reach) | (finite > high + reach) if reach > 0 else np.zeros(finite.shape, bool)
    for value in (finite.min(), finite.max()):
        far |= _apart(finite, value)
    usual = finite[~far] if far.any() and not far.all() else finite
    return ChannelSurvey(
        variable=variable,
        count=len(known),
        missing=1 - len(known) / len(values),
        minimum=float(known.min()),
        maximum=float(known.max()),
        mean=mean,
        std=std,
        low=low,
        high=high,
        outliers=int(far.sum()) + len(known) - len(finite),
        usual_mean=float(usual.mean()),
        usual_std=float(usual.std()),
        lost=lost if np.isfinite(lost) else 0.0,
    )


def _apart(finite: Floats, extreme: float) -> NDArray[np.bool_]:
    """Where a field has an extreme value that is far from all its others, such as -9999 for what is missing."""
    same = finite == extreme
    rest = finite[~same]
    # Two values and their rounding are two phases, not a field with a mark in it, unless one is written as marks are.
    if not rest.size or (np.ptp(rest) <= 1e-3 * np.abs(rest).max() and not is_mark(float(extreme))):
        return np.zeros(finite.shape, bool)
    gap = min(abs(rest.min() - extreme), abs(rest.max() - extreme))
    return np.asarray(same & (gap > _APART * np.ptp(rest)))


def assume_survey(survey: Survey, fields: FieldReader) -> None:
    """Say what in the values will spoil training, one assumption each."""
    where = f"{fields.sources[0] if fields.sources else fields.dataset.attrs['dataset']}, {survey.extent}"
    stored = {channel.variable.key: channel for channel in (*fields.state, *fields.static)}
    for channel in survey.channels:
        key, name = channel.variable.key, channel.variable.name
        if channel.loses:
            assume(
                "precision_lost",
                key,
                f"{where}: {channel.mean:.10g} +- {channel.std:.2g}{_unit(channel.variable)}; float32, in which stores"
                f" keep values, rounds this by {channel.lost:.1%} of its deviation",
                f"transforms: {{{name}: {{kind: shift, offset: {channel.offset!r}}}}}",
            )
        if not channel.count and not channel.outliers:
            assume(
                "missing_values", key, f"{where}: all values are missing", "leave the field out by variables"
            )
        mark = mark_among(stored[key], (channel.minimum, channel.maximum)) if channel.outliers else None
        if mark is not None:
            ask_mark(stored[key], mark, f"{where}: {channel.outliers} of {channel.count} values")
        elif channel.outliers and not np.isfinite(channel.std):
            assume("spikes", key, f"{where}: {channel.outliers} values are infinite, and none is finite")
        elif channel.outliers:
            assume(
                "spikes",
                key,
                f"{where}: {channel.outliers} of {channel.count} values, down to {channel.minimum:.4g} and up to"
                f" {channel.maximum:.4g}, where 99.8 % lie between {channel.low:.4g} and {channel.high:.4g}",
            )
        if channel.constant and channel.variable.role != "static":
            assume_constant(channel.variable, channel.mean, where)
    for axis in survey.repeated:
        coordinate = fields.grid.y if axis == "y" else fields.grid.x
        assume(
            "repeated_end",
            axis,
            f"{where}: {axis} is periodic, but all fields have the same values at its last point as at its first,"
            " so that the point counts twice",
            f"subset: {{{axis}: {sorted([float(coordinate[0]), float(coordinate[-2])])}}}",
        )


def mark_among(channel: StoreChannel, extremes: Sequence[float]) -> float | None:
    """The first of some extreme values that people write for missing ones, in the units of the source."""
    return next((value for value in map(channel.to_source, extremes) if is_mark(value)), None)


def ask_mark(channel: StoreChannel, mark: float, where: str) -> None:
    """Ask whether a value marks missing ones: trained on as it is, it would outweigh all others."""
    key, name = channel.variable.key, channel.source
    text = f"{where} are far from all others, as {mark:.7g}, which looks like a mark of missing ones"
    answer = (
        f"marks: {{{name}: [{mark:.7g}]}} makes them missing; accept: [missing_values] keeps them as values"
    )
    ask("missing_values", key, text, answer)


def assume_constant(variable: Variable, value: float, where: str) -> None:
    """Say that a channel does not vary."""
    effect = "tells a network nothing" if variable.role == "forcing" else "is left out of relative losses"
    assume("constant", variable.key, f"{where}: {value:.6g}{_unit(variable)} everywhere, and {effect}")


def _unit(variable: Variable) -> str:
    return "" if variable.units == "1" else f" {variable.units}"


def table(survey: Survey) -> Iterator[str]:
    """Minimum, maximum, missing share and outliers of each channel, as lines of a table."""
    width = max([8, *(len(channel.variable.key) for channel in survey.channels)])
    yield (
        f"{'variable':{width}} {'units':12} {'minimum':>12} {'maximum':>12} {'mean':>12} {'std':>12}"
        f" {'missing':>8} {'outliers':>8}"
    )
    for one in survey.channels:
        numbers = " ".join(f"{n:>12.6g}" for n in (one.minimum, one.maximum, one.mean, one.std))
        yield f"{one.variable.key:{width}} {one.variable.units:12} {numbers} {one.missing:>8.2%} {one.outliers:>8}"
