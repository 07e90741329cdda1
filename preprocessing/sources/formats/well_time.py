"""Times of The Well: one time axis for trajectories that may start and end at different times."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.formats.well_file import WellFile

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TimeAxis:
    """The times of N trajectories.

    Attributes:
        values: (T,) times of the trajectory that lasts longest; from 0 where trajectories start at different times.
        starts: (N,) when each trajectory starts, where that differs.
        taken: (N,) which trajectories are read.
        present: (N, T) which frames each trajectory has.
    """

    values: Floats
    starts: Floats | None
    taken: NDArray[np.bool_]
    present: NDArray[np.bool_]


def time_axis(files: Sequence[WellFile], dt: float | None) -> TimeAxis:
    """The common time axis of some files.

    Args:
        files: their trajectories all start with the first frame, and may have different numbers of frames.
        dt: only trajectories with this step in time are read; all where it is None.

    Raises:
        ConfigError: no trajectory has this step.
        DataError: trajectories that are read differ in their steps.
    """
    times = _rows(files)
    rounded = max(file.rounding for file in files)
    taken = np.ones(len(times), bool) if dt is None else _with_step(files[0].path, times, dt, rounded)
    rows = times[taken]
    counts = _counts(rows)
    rows = rows[:, : counts.max()]
    steps = np.diff(rows, axis=1)
    least = float(np.nanmin(np.abs(steps), initial=np.inf)) if counts.max() > 1 else 0.0
    # A thousandth of a step as for all axes of time, and what rounds both ends of a step.
    allowed = 1e-3 * least + 2 * min(rounded, least / 4)
    whole = np.flatnonzero(counts == counts.max())
    best = int(whole[np.abs(rows[whole]).max(axis=1).argmin()])  # the smallest times are rounded least
    present = np.isfinite(times[:, : counts.max()])
    if not np.any(np.abs(rows - rows[whole[0]]) > allowed):
        return TimeAxis(rows[whole[0]], None, taken, present)
    if len(odd := np.argwhere(np.abs(steps - steps[best]) > allowed)):
        row, frame = odd[0]
        one, two = (_place(files, int(np.flatnonzero(taken)[i])) for i in (best, row))
        raise DataError(
            f"{two}: frames {frame} and {frame + 1} are {steps[row, frame]:g} apart, and"
            f" {steps[best, frame]:g} in {one}: a dataset has one step in time, or lead times would be wrong."
            f" Steps are {_listed(rows)}: make a dataset of each, as in dt: {_steps(rows)[0]:g}"
        )
    return TimeAxis(rows[best] - rows[best, 0], times[:, 0], taken, present)


def _rows(files: Sequence[WellFile]) -> Floats:
    """(N, T) the times of each trajectory, NaN after its end."""
    longest = max(file.times.shape[1] for file in files)
    rows = np.full((sum(file.num_trajectories for file in files), longest), np.nan)
    start = 0
    for file in files:
        stop = start + file.num_trajectories
        rows[start:stop, : file.times.shape[1]] = file.times
        start = stop
    return rows


def _counts(times: Floats) -> NDArray[np.int64]:
    return np.asarray(np.isfinite(times).sum(axis=1))


def _place(files: Sequence[WellFile], row: int) -> str:
    for file in files:
        if row < file.num_trajectories:
            return f"{file.path}, trajectory {row}"
        row -= file.num_trajectories
    raise IndexError(row)


def _mean_steps(times: Floats) -> Floats:
    counts = _counts(times)
    return np.asarray((times[np.arange(len(times)), counts - 1] - times[:, 0]) / np.maximum(1, counts - 1))


def _steps(times: Floats) -> list[float]:
    """The mean steps in time of the trajectories, each named once."""
    found: list[float] = []
    for step in np.sort(_mean_steps(times[_counts(times) > 1])):
        if not found or step - found[-1] > 1e-3 * step:
            found.append(float(step))
    return found


def _listed(times: Floats) -> str:
    return ", ".join(f"{step:g}" for step in _steps(times))


def _with_step(path: Path, times: Floats, dt: float, rounded: float) -> NDArray[np.bool_]:
    allowed = 1e-3 * dt + np.minimum(rounded / np.maximum(1, _counts(times) - 1), dt / 4)
    taken = np.abs(_mean_steps(times) - dt) <= allowed
    if not taken.any():
        raise ConfigError(f"dt: no trajectory of {path} has steps of {dt:g}; there are {_listed(times)}")
    return np.asarray(taken)
