"""Resampling: which forecasts are drawn together, and how often each is drawn.

Forecasts whose times overlap, or that belong to one trajectory, fail and succeed together. Drawn one by one they would
make intervals too narrow, so blocks of them are drawn (Künsch, 1989; for clusters, Davison and Hinkley, 1997, 3.8).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pelagos.preprocessing.array_types import Floats, Ints

FEW = 10
"""Blocks below which an interval is only a hint: the percentile bootstrap is too narrow then."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Samples that are drawn together.

    Attributes:
        of_sample: (S,) the block of each sample, counted from 0.
        kind: `trajectory`, or `time`: runs of starts within a trajectory.
    """

    of_sample: Ints
    kind: Literal["trajectory", "time"]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return int(self.of_sample.max()) + 1 if len(self.of_sample) else 0

    @property
    def few(self) -> bool:
        """Whether there are too few blocks for a trustworthy interval."""
        return self.count < FEW

    def means(self, values_S: Floats) -> Floats:
        """(block,) the mean of the defined values of each block, NaN where there is none."""
        defined = ~np.isnan(values_S)
        members = np.bincount(self.of_sample, defined, self.count)
        sums = np.bincount(self.of_sample, np.where(defined, values_S, 0.0), self.count)
        return np.asarray(np.where(members > 0, sums / np.maximum(members, 1), np.nan))


def blocks_of(trajectory_S: Ints, start_S: Ints, reach: int) -> Blocks:
    """The blocks of forecasts from these starts.

    A trajectory is a block where there are enough trajectories; otherwise each is cut into runs of starts no shorter
    than a forecast, where that gives more blocks: a single long record of weather has no other.

    Args:
        trajectory_S: of each sample.
        start_S: frame that each sample starts from.
        reach: frames from a start to the end of its forecast.
    """
    trajectories = np.unique(trajectory_S, return_inverse=True)[1].astype(np.int64)
    if len(trajectories) == 0 or trajectories.max() + 1 >= FEW:
        return Blocks(trajectories, "trajectory")
    # Two forecasts overlap where their starts are less than `reach` apart, so a run is at least as long as that.
    runs = (start_S - start_S.min()) // max(reach, 1)
    pairs = np.stack([trajectories, runs], axis=1)
    by_time = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    if by_time.max() == trajectories.max():
        return Blocks(trajectories, "trajectory")
    return Blocks(by_time, "time")


def draw_counts(blocks: Blocks, replicates: int = 1000, seed: int = 0) -> Floats:
    """(1 + replicate, sample) how often each sample is drawn; the first row is the samples as they are.

    With fewer than two blocks nothing can be drawn: the result has the first row alone.

    Args:
        blocks: drawn with replacement, as many as there are.
        replicates: how many times.
        seed: of the draws; the same for two models makes their differences paired.
    """
    whole, number = np.ones((1, len(blocks.of_sample))), blocks.count
    if number < 2:
        return whole
    # How often each block comes up in so many draws with replacement is multinomial: no draw is needed itself.
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=replicates)
    return np.concatenate([whole, drawn[:, blocks.of_sample].astype(np.float64)])
