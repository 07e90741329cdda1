"""Window sampling: several later frames of one initial frame are a sample, forecast directly or step by step."""

from itertools import pairwise
from typing import Literal, Self

import numpy as np
from pydantic import NonNegativeInt, PositiveInt, model_validator

from pelagos.preprocessing.array_types import Flags, Ints
from pelagos.preprocessing.config import Config


class FrameWindows(Config):
    """Windows of `steps` + 1 frames, `lead` frames apart: an initial one and those that are forecast.

    Attributes:
        steps: how many frames are forecast.
        lead: the distance between frames of a window [frames].
        every: the distance between initial frames, from `start` on [frames].
        start: the first frame used.
        stop: the frame after the last one used; by default the trajectory's end.
        min_start: the first frame that may be initial.
        max_start: the last frame that may be initial; any by default.
        curriculum: pairs of a training step and the number of frames that are forecast from that step on; `steps`
            throughout by default. Which frames are initial does not depend on it.
    """

    steps: PositiveInt
    lead: PositiveInt = 1
    every: PositiveInt = 1
    start: NonNegativeInt = 0
    stop: PositiveInt | None = None
    min_start: NonNegativeInt = 0
    max_start: NonNegativeInt | None = None
    curriculum: tuple[tuple[NonNegativeInt, PositiveInt], ...] = ()

    @model_validator(mode="after")
    def _curriculum_grows(self) -> Self:
        if not self.curriculum:
            return self
        firsts, numbers = zip(*self.curriculum, strict=True)
        # Later stages never forecast less: the windows hold the frames of the longest.
        rising = all(a < b for a, b in pairwise(firsts)) and list(numbers) == sorted(numbers)
        if firsts[0] != 0 or not rising or numbers[-1] > self.steps:
            raise ValueError(
                f"curriculum {[list(pair) for pair in self.curriculum]} must begin at training step 0 and grow "
                f"to at most steps: {self.steps}, such as [[0, 1], [1000, {self.steps}]]"
            )
        return self

    @property
    def stride(self) -> int:
        """The distance between frames that are used [frames]."""
        return 1

    @property
    def spacing(self) -> int:
        """The shortest step of a forecast [frames]."""
        return self.lead

    @property
    def shortest(self) -> int:
        """The distance from the initial to the last frame of a window [frames]."""
        return self.steps * self.lead

    def steps_at(self, training_step: int) -> int:
        """How many frames are forecast at a step of training.

        >>> sampling = RolloutSampling(steps=4, curriculum=((0, 1), (100, 2), (300, 4)))
        >>> [sampling.steps_at(step) for step in (0, 99, 100, 299, 300)]
        [1, 1, 2, 2, 4]
        """
        reached = [number for first, number in self.curriculum if first <= training_step]
        return reached[-1] if reached else self.steps

    def counts(self, first: int, num: int, reach: int = 0) -> Ints:
        """(num,) how many samples begin at each of the usable frames of a run, see `PairSampling.counts`."""
        position = np.arange(num)
        initial = first + position
        allowed = allowed_starts(initial, self.min_start, self.max_start)
        # Counted from `start`, not from the run's first frame: all trajectories begin their windows at the same
        # times.
        allowed &= (initial - self.start) % self.every == 0
        return (allowed & (position >= reach) & (position + self.shortest < num)).astype(np.int64)


def allowed_starts(initial: Ints, first: int, last: int | None) -> Flags:
    """Which initial frames lie from `first` to `last`, both included."""
    return (initial >= first) & (True if last is None else initial <= last)


class WindowSampling(FrameWindows):
    """Windows whose frames are each forecast from the initial one directly."""

    kind: Literal["windows"] = "windows"


class RolloutSampling(FrameWindows):
    """Windows whose frames are each forecast from the forecast of the one before."""

    kind: Literal["rollouts"] = "rollouts"
