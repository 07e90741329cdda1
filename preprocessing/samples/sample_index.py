"""Sample index: which frames of which trajectory sample number k is made of, without a list of all samples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from pelagos.preprocessing.array_types import Flags, Ints
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.window_sampling import RolloutSampling, WindowSampling, allowed_starts

if TYPE_CHECKING:  # only training transforms samples
    from pelagos.preprocessing.samples.augmentation import Transformation


class PairSampling(Config):
    """All pairs of an initial and a later valid frame among frames start, start + stride, ... of a trajectory.

    Attributes:
        start: the first frame used.
        stop: the frame after the last one used; by default the trajectory's end.
        stride: the distance between frames that are used [frames].
        max_lead: the largest lead [frames]; any by default.
        min_start: the first frame that may be initial.
        max_start: the last frame that may be initial; any by default. Equal to `min_start`, it fixes the initial frame.
        identity: whether a frame is paired with itself as well.
    """

    kind: Literal["pairs"] = "pairs"
    start: NonNegativeInt = 0
    stop: PositiveInt | None = None
    stride: PositiveInt = 1
    max_lead: PositiveInt | None = None
    min_start: NonNegativeInt = 0
    max_start: NonNegativeInt | None = None
    identity: bool = False

    @property
    def steps(self) -> int:
        """Forecast steps from the initial to the valid frame."""
        return 1

    def steps_at(self, _training_step: int) -> int:
        """Forecast steps at a step of training."""
        return 1

    @property
    def spacing(self) -> int:
        """The shortest step of a forecast [frames]."""
        return self.stride

    @property
    def shortest(self) -> int:
        """The smallest lead [strides]."""
        return 0 if self.identity else 1

    def counts(self, first: int, num: int, reach: int = 0) -> Ints:
        """(num,) how many samples begin at each of the usable frames of a run.

        Args:
            first: the first of them.
            num: how many there are.
            reach: how far before the initial frame a sample begins [frames].
        """
        position = np.arange(num)
        leads = num - 1 - position
        if self.max_lead is not None:
            # A sample for each lead up to the last frame: early frames begin more of them.
            leads = np.minimum(leads, self.max_lead // self.stride)
        allowed = allowed_starts(first + position * self.stride, self.min_start, self.max_start)
        allowed &= position * self.stride >= reach
        return np.where(allowed, leads + int(self.identity), 0)


Sampling = Annotated[PairSampling | WindowSampling | RolloutSampling, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class SampleFrames:
    """The frames that B samples are made of.

    Attributes:
        index: (B, 3) trajectory, initial frame and (last) valid frame.
        leads: (B,) frames of one forecast step.
        times: (B, K + 1) the initial frame, then that of each step.
        earlier: (B, A - 1) frames before the initial one that are input as well, the latest first.
        transformation: what the samples become on their way into a batch; None where they stay as they are.
    """

    index: Ints
    leads: Ints
    times: Ints
    earlier: Ints
    transformation: "Transformation | None" = None

    @property
    def steps(self) -> int:
        """K, the steps that are forecast."""
        return int(self.times.shape[1]) - 1

    @property
    def all_times(self) -> Ints:
        """(B, K + A) `times`, then `earlier`."""
        return np.concatenate([self.times, self.earlier], axis=1) if self.earlier.size else self.times

    def positions(self) -> Iterator[tuple[int, int]]:
        """Trajectory and time of each frame, sample by sample."""
        for trajectory, times in zip(self.index[:, 0].tolist(), self.all_times.tolist(), strict=True):
            for time in times:
                yield trajectory, time


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """The samples of R runs, where a run is consecutive frames of one trajectory that are all in the split.

    Memory, and the time to build it, grow with the number of runs and the length of the longest, not with the number
    of samples.

    Attributes:
        trajectory: (R,) the trajectory of each run.
        first: (R,) its first usable frame.
        ends: (R,) the number of samples up to and including each run.
        tables: (R,) which of `cumulative` counts its samples: runs of equal first frame and length share one.
        cumulative: for each kind of run (L + 1,) the number of samples that begin before each of its L usable frames.
        stride: distance of usable frames [frames].
        shortest: from the initial to the (last) valid frame of the shortest sample [strides].
    """

    trajectory: Ints
    first: Ints
    ends: Ints
    tables: Ints
    cumulative: tuple[Ints, ...]
    stride: int
    shortest: int

    @property
    def num_samples(self) -> int:
        """The samples of all runs."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def leads(self) -> tuple[int, int]:
        """From the initial to the (last) valid frame, in the shortest and the longest sample [frames]."""
        # The leads of a frame are consecutive, so their number tells the longest.
        most = max(int(np.diff(counts).max(initial=0)) for counts in self.cumulative)
        return self.shortest * self.stride, (self.shortest + most - 1) * self.stride

    def lookup(self, samples: Ints) -> Ints:
        """(B, 3) trajectory, initial frame and (last) valid frame of samples (B,)."""
        runs = np.searchsorted(self.ends, samples, side="right")
        before = np.where(runs > 0, self.ends[runs - 1], 0)
        # Of a sample, its number within its run.
        local = samples - before
        out = np.empty((len(samples), 3), np.int64)
        out[:, 0] = self.trajectory[runs]
        tables = self.tables[runs]
        several = len(self.cumulative) > 1
        for table in np.unique(tables) if several else [0]:
            rows = np.flatnonzero(tables == table) if several else slice(None)
            counts = self.cumulative[table]
            initial = np.searchsorted(counts, local[rows], side="right") - 1
            lead = local[rows] - counts[initial] + self.shortest
            out[rows, 1] = self.first[runs[rows]] + initial * self.stride
            out[rows, 2] = out[rows, 1] + lead * self.stride
        return out


def index_samples(
    frames: Flags, sampling: Sampling, num_trajectories: int | None = None, reach: int = 0
) -> SampleIndex:
    """The samples of the frames (N, T) of a split.

    Args:
        frames: which frames are in the split.
        sampling: which pairs or windows of them are samples.
        num_trajectories: only the first so many trajectories of the split.
        reach: how far before its initial frame a sample begins, in the split as well [frames].

    Raises:
        ConfigError: there are no such samples, or fewer trajectories.
    """
    usable = frames.copy()
    # Frames outside count as if they were of no split: no sample may reach into them.
    usable[:, : sampling.start] = False
    if sampling.stop is not None:
        usable[:, sampling.stop :] = False
    trajectory, start, stop = _runs(first_trajectories(usable, num_trajectories))
    # The first frame of each run that is a whole number of strides after `sampling.start`.
    first = start + (sampling.start - start) % sampling.stride
    lengths = np.maximum(0, -(-(stop - first) // sampling.stride))
    # Runs of equal first frame and length have their samples at the same places, so they share a table of counts.
    base = frames.shape[1] + 1
    kinds, tables = np.unique(first * base + lengths, return_inverse=True)
    counts = (sampling.counts(kind // base, kind % base, reach) for kind in kinds.tolist())
    cumulative = tuple(np.concatenate([[0], np.cumsum(count)]) for count in counts)
    totals = np.array([before[-1] for before in cumulative], np.int64)
    index = SampleIndex(
        trajectory=trajectory,
        first=first,
        ends=np.cumsum(totals[tables]),
        tables=tables,
        cumulative=cumulative,
        stride=sampling.stride,
        shortest=sampling.shortest,
    )
    if not index.num_samples:
        raise ConfigError(
            f"no samples: the split has {int(frames.any(axis=1).sum())} trajectories "
            f"of {frames.shape[1]} frames, and sampling asks for {sampling}"
            + (f", with history from {reach} frames before" if reach else "")
        )
    return index


def first_trajectories(usable: Flags, num_trajectories: int | None) -> Flags:
    """Those of the frames (N, T) that are in the first so many trajectories with any; all without a number.

    Raises:
        ConfigError: there are fewer trajectories.
    """
    if num_trajectories is None:
        return usable
    present = np.flatnonzero(usable.any(axis=1))
    if num_trajectories > len(present):
        raise ConfigError(f"num_trajectories: {num_trajectories} of the {len(present)} in the split")
    chosen = usable.copy()
    chosen[present[num_trajectories:]] = False
    return chosen


def _runs(usable: Flags) -> tuple[Ints, Ints, Ints]:
    """Trajectory, start and stop of each run of consecutive frames."""
    # Signed and padded: a run then begins with +1 and ends with -1, at the edges too.
    padded = np.zeros((len(usable), usable.shape[1] + 2), np.int8)
    padded[:, 1:-1] = usable
    edges = np.diff(padded, axis=1)
    trajectory, start = np.nonzero(edges == 1)
    _, stop = np.nonzero(edges == -1)
    return trajectory, start, stop
