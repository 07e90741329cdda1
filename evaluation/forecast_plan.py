"""Which forecasts are made and scored: trajectories, start frames and lead times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import with_role


class StartsConfig(Config):
    """Which forecasts are made: from which frames of which trajectories, and how far.

    Attributes:
        split: the split that holds every frame of every forecast.
        trajectories: how many of the split's trajectories to take, from the first on; all by default.
        first: the first start, counted in frames from where the split begins.
        every: distance between starts in frames; by default there is only the first.
        stride: frames per step.
        steps: steps per forecast.
    """

    split: str = "test"
    trajectories: int | None = Field(default=None, gt=0)
    first: int = Field(default=0, ge=0)
    every: int | None = Field(default=None, gt=0)
    stride: int = Field(default=1, gt=0)
    steps: int = Field(default=1, gt=0)

    def plan(self, store: Store, *, verified: bool = True) -> "ForecastPlan":
        """The trajectories and start frames that a store offers.

        Args:
            store: to start from.
            verified: whether it has to hold the frames that are forecast too.

        Raises:
            DataError: the store has no such split, or no forecast fits into it.
        """
        inside = frames_in_split(store, self.split)
        reach = 0 if is_steady(store) or not verified else self.stride * self.steps
        members = np.flatnonzero(inside.any(axis=1))[: self.trajectories]
        offset = int(np.argmax(inside[members[0]])) + self.first
        last = store.num_times - reach
        candidates = range(offset, last, self.every) if self.every else range(offset, min(offset + 1, last))
        # The frames between two lead times count as well: whatever a step covers is held out.
        starts = [s for s in candidates if inside[members, s : s + reach + 1].all()]
        if not starts:
            frames = int(inside[members].sum(axis=1).min())
            raise DataError(
                f"{store.path}: no forecast of {self.steps} steps of {self.stride} frames fits into split"
                f" {self.split!r} from its frame {self.first} on; its trajectories have {frames} frames"
            )
        chosen = tuple(int(i) for i in members)
        return ForecastPlan(chosen, tuple(starts), self.stride, self.steps, self.split)


@dataclass(frozen=True)
class ForecastPlan:
    """Forecasts to make: each trajectory from each start, `steps` steps of `stride` frames.

    Attributes:
        trajectories: of the store.
        starts: frames.
        stride: frames per step.
        steps: per forecast.
        split: that holds all frames, where the plan was made of one.
    """

    trajectories: tuple[int, ...]
    starts: tuple[int, ...]
    stride: int
    steps: int
    split: str = ""


def frames_in_split(store: Store, split: str) -> NDArray[np.bool_]:
    """(trajectory, time) whether a frame belongs to a split.

    Raises:
        DataError: the store has no such split, or no frame in it.
    """
    filled = [name for name, inside in store.splits.items() if inside.any()]
    if split not in filled:
        raise DataError(f"{store.path} has the splits {', '.join(filled)}, not {split!r}")
    return store.splits[split]


def is_steady(store: Store) -> bool:
    """Whether the store maps static fields to a solution without time."""
    return not with_role(store.variables, "prognostic")


def lead_times(store: Store, plan: ForecastPlan) -> NDArray[np.float64]:
    """(steps,) lead times in the store's units of time; 1 for a steady problem."""
    if is_steady(store):
        return np.ones(1)
    return np.arange(1, plan.steps + 1, dtype=np.float64) * (plan.stride * store.dt)
