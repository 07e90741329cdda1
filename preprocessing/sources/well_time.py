"""Times of The Well: one axis for trajectories that start at different times, or a question about their steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.well_file import Contents

Floats = NDArray[np.float64]


def clock(files: Sequence[Contents], dt: float | None) -> tuple[Floats, Floats | None, NDArray[np.bool_]]:
    """(T,) the axis of time; (N,) when each trajectory starts, where that differs; (N,) which are read.

    Args:
        files: of the same number of frames.
        dt: the step in time of those trajectories that are read; all are where it is None.

    Raises:
        ConfigError: no trajectory has this step.
        DataError: those that are read differ in their steps.
    """
    times = np.concatenate(
        [np.broadcast_to(file.times, (file.num_trajectories, file.times.shape[1])) for file in files]
    )
    taken = np.ones(len(times), bool) if dt is None else _with_step(files[0].path, times, dt)
    rows = times[taken]
    steps = np.diff(rows, axis=1)
    least = float(np.abs(steps).min(initial=np.inf if steps.size else 0.0))
    # A thousandth of a step as for all axes of time, and what rounds both ends of a step.
    allowed = 1e-3 * least + 2 * min(max(file.rounding for file in files), least / 4)
    if np.all(np.abs(rows - rows[0]) <= allowed):
        return rows[0], None, taken
    best = int(np.abs(rows).max(axis=1).argmin())  # rounded least
    if len(odd := np.argwhere(np.abs(steps - steps[best]) > allowed)):
        row, frame = odd[0]
        one, two = (_place(files, int(np.flatnonzero(taken)[i])) for i in (best, row))
        raise DataError(
            f"{two}: frames {frame} and {frame + 1} are {steps[row, frame]:g} apart, and"
            f" {steps[best, frame]:g} in {one}: a dataset has one step in time, or lead times would be wrong."
            f" Steps are {_listed(rows)}: make a dataset of each, as in dt: {_steps(rows)[0]:g}"
        )
    return rows[best] - rows[best, 0], times[:, 0], taken


def _place(files: Sequence[Contents], row: int) -> str:
    for file in files:
        if row < file.num_trajectories:
            return f"{file.path}, trajectory {row}"
        row -= file.num_trajectories
    raise IndexError(row)


def _mean_steps(times: Floats) -> Floats:
    return np.asarray((times[:, -1] - times[:, 0]) / max(1, times.shape[1] - 1))


def _steps(times: Floats) -> list[float]:
    """The steps in time that trajectories have on average, each once."""
    found: list[float] = []
    for step in np.sort(_mean_steps(times)):
        if not found or step - found[-1] > 1e-3 * step:
            found.append(float(step))
    return found


def _listed(times: Floats) -> str:
    return ", ".join(f"{step:g}" for step in _steps(times))


def _with_step(path: Path, times: Floats, dt: float) -> NDArray[np.bool_]:
    taken = np.abs(_mean_steps(times) - dt) <= 1e-3 * dt
    if not taken.any():
        raise ConfigError(f"dt: no trajectory of {path} has steps of {dt:g}; there are {_listed(times)}")
    return np.asarray(taken)
