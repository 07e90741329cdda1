"""Which forecasts are made and scored: trajectories, start frames and lead times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import product
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.quantities.dates import text_of
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import with_role


def _listed(value: object) -> object:
    """One start as a list of one; YAML takes dates for more than texts."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(one.isoformat() if isinstance(one, date) else one for one in values)


class StartsConfig(Config):
    """Which forecasts are made: from which frames of which trajectories, and how far.

    Attributes:
        split: the split that holds every frame of every forecast.
        trajectories: how many of the split's trajectories to take, from the first on, or the numbers of those to take;
            all by default.
        at: the frames to start from, in place of a split: `last`, dates (2020-01-31T06:00) or numbers of frames.
        first: the first start, counted in frames from where the split begins.
        every: distance between starts in frames; by default there is only the first.
        stride: frames per step.
        steps: steps per forecast.
    """

    split: str = "test"
    trajectories: PositiveInt | tuple[NonNegativeInt, ...] | None = None
    at: Annotated[tuple[str | int, ...], BeforeValidator(_listed)] = ()
    first: int = Field(default=0, ge=0)
    every: int | None = Field(default=None, gt=0)
    stride: int = Field(default=1, gt=0)
    steps: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _one_choice(self) -> "StartsConfig":
        if self.at and (self.first or self.every):
            raise ValueError("at names the starts, so first and every have no meaning beside it")
        return self

    def plan(self, store: Store, *, verified: bool = True) -> "ForecastPlan":
        """The trajectories and start frames that a store offers.

        Args:
            store: to start from.
            verified: whether it has to hold the frames that are forecast too.

        Raises:
            DataError: the store has no such split, date or frame, or no forecast fits into it.
        """
        if self.at:
            return self._plan_at(store, verified=verified)
        inside = frames_in_split(store, self.split)
        reach = 0 if is_steady(store) or not verified else self.stride * self.steps
        members = self._chosen(store, np.flatnonzero(inside.any(axis=1)), f"split {self.split!r}")
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

    def _chosen(self, store: Store, there: NDArray[np.int64], what: str) -> NDArray[np.int64]:
        """The trajectories to take of those that there are."""
        if not isinstance(self.trajectories, tuple):
            return there[: self.trajectories]
        if unknown := sorted(set(self.trajectories) - set(there.tolist())):
            raise DataError(
                f"{store.path}: trajectory {unknown[0]} is not in {what}; see starts.trajectories"
            )
        return np.array(self.trajectories)

    def _plan_at(self, store: Store, *, verified: bool) -> "ForecastPlan":
        present = np.ones((store.num_trajectories, store.num_times), np.bool_)
        present = present if store.present is None else store.present
        chosen = self._chosen(store, np.arange(store.num_trajectories), "the store")
        starts = sorted({self._frame(store, present[chosen], one) for one in self.at})
        reach = 0 if is_steady(store) or not verified else self.stride * self.steps
        for start in starts:
            last = start + reach
            if last >= store.num_times or not present[chosen][:, (start, last)].all():
                raise DataError(
                    f"{store.path}: a forecast of {reach} frames from frame {start} leaves the store, whose"
                    f" trajectories have {int(present[chosen].sum(axis=1).min())} frames"
                )
        return ForecastPlan(tuple(int(i) for i in chosen), tuple(starts), self.stride, self.steps)

    def _frame(self, store: Store, present: NDArray[np.bool_], at: str | int) -> int:
        """The number of the frame that an entry of `at` means."""
        if at == "last":
            ends = present.shape[1] - 1 - np.argmax(present[:, ::-1], axis=1)
            if len(found := np.unique(ends)) > 1:
                raise DataError(
                    f"{store.path}: trajectories end at frames {found.min()} to {found.max()}, so they have no last"
                    " frame in common: choose some by starts.trajectories, or a frame by starts.at"
                )
            return int(found[0])
        if isinstance(at, int) or at.isdigit():
            if not 0 <= int(at) < store.num_times:
                raise DataError(f"{store.path}: starts.at: no frame {at}; it has {store.num_times}")
            return int(at)
        return _frame_at(store, at)


class ForecastStart(NamedTuple):
    """One forecast of a plan: the trajectory and the frame it starts from, and which member of the ensemble it is."""

    trajectory: int
    start: int
    member: int = 0


@dataclass(frozen=True)
class StartBatch:
    """Forecasts that are computed together: a block of a plan's trajectories, starts and members.

    Attributes:
        number: of the batch in its plan.
        cell: its position in the grid of batches, along trajectories, starts and members.
        shape: how many trajectories, starts and members it has; their product is the number of its samples.
        samples: the forecasts, the member running fastest and the trajectory slowest.
    """

    number: int
    cell: tuple[int, int, int]
    shape: tuple[int, int, int]
    samples: tuple[ForecastStart, ...]

    def part(self, places: Sequence[int]) -> "StartBatch":
        """Some of its forecasts, which are no block any more."""
        return replace(self, samples=tuple(self.samples[place] for place in places))


@dataclass(frozen=True)
class ForecastPlan:
    """Forecasts to make: each trajectory from each start, `steps` steps of `stride` frames.

    Attributes:
        trajectories: of the store.
        starts: frames.
        stride: frames per step.
        steps: per forecast.
        split: that holds all frames, where the plan was made of one.
        members: of the ensemble; empty for a single forecast from each start, which has no such dimension.
    """

    trajectories: tuple[int, ...]
    starts: tuple[int, ...]
    stride: int
    steps: int
    split: str = ""
    members: tuple[int, ...] = ()

    @property
    def sample_dims(self) -> tuple[str, ...]:
        """The dimensions that tell the forecasts apart."""
        return ("trajectory", "start", "member") if self.members else ("trajectory", "start")

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The lengths of `sample_dims`."""
        return tuple(len(axis) for axis in (self.trajectories, self.starts, self.members) if axis)

    def samples_at(self, start: int) -> tuple[ForecastStart, ...]:
        """The forecasts of all trajectories and members from one start."""
        members = self.members or (0,)
        return tuple(ForecastStart(row, start, member) for row in self.trajectories for member in members)

    def batch_shape(self, size: int) -> tuple[int, int, int]:
        """How many trajectories, starts and members are computed together, `size` forecasts at most."""
        members = min(size, len(self.members) or 1)
        starts = min(max(1, size // members), len(self.starts))
        return min(max(1, size // (members * starts)), len(self.trajectories)), starts, members

    def batches(self, size: int) -> tuple[StartBatch, ...]:
        """All forecasts in batches of `size` at most, each a block of trajectories, starts and members."""
        axes = (self.trajectories, self.starts, self.members or (0,))
        blocks = [
            [axis[first : first + length] for first in range(0, len(axis), length)]
            for axis, length in zip(axes, self.batch_shape(size), strict=True)
        ]
        cells = product(*(range(len(axis)) for axis in blocks))
        return tuple(self._batch(number, cell, blocks) for number, cell in enumerate(cells))

    @staticmethod
    def _batch(number: int, cell: tuple[int, ...], blocks: list[list[tuple[int, ...]]]) -> StartBatch:
        trajectories, starts, members = (axis[place] for axis, place in zip(blocks, cell, strict=True))
        samples = tuple(ForecastStart(*sample) for sample in product(trajectories, starts, members))
        where, shape = (cell[0], cell[1], cell[2]), (len(trajectories), len(starts), len(members))
        return StartBatch(number, where, shape, samples)


def frames_in_split(store: Store, split: str) -> NDArray[np.bool_]:
    """(trajectory, time) whether a frame belongs to a split.

    Raises:
        DataError: the store has no such split, or no frame in it.
    """
    filled = [name for name, inside in store.splits.items() if inside.any()]
    if split not in filled:
        raise DataError(f"{store.path} has the splits {', '.join(filled)}, not {split!r}")
    return store.splits[split]


def _frame_at(store: Store, date_text: str) -> int:
    """The frame at a date.

    Raises:
        DataError: there is none.
    """
    if store.dates is None:
        raise DataError(
            f"{store.path} has times without dates, so starts.at={date_text} means nothing there: give the number of a"
            " frame, or `last`"
        )
    try:
        return store.dates.frame(date_text)
    except ValueError:
        ends = store.dates.at(np.array([0, store.num_times - 1]))
        raise DataError(
            f"{store.path}: no frame at {date_text}; its {store.num_times} frames are from {text_of(ends[0])} to"
            f" {text_of(ends[1])}"
        ) from None


def is_steady(store: Store) -> bool:
    """Whether the store maps static fields to a solution without time."""
    return not with_role(store.variables, "prognostic")


def lead_times(store: Store, plan: ForecastPlan) -> NDArray[np.float64]:
    """(steps,) lead times in the store's units of time; 1 for a steady problem."""
    if is_steady(store):
        return np.ones(1)
    return np.arange(1, plan.steps + 1, dtype=np.float64) * (plan.stride * store.dt)
