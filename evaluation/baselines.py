"""Forecasts that any network has to beat: persistence, climatology, and a local linear stencil.

All are forecasts as evaluation.forecast_schema defines them. Training data is (trajectory, time, y, x).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation.forecast_schema import LEAD_TIME, grid_of, ordered_fields, variable_names
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.quantities import dates

Array = NDArray[np.float64]
LeadTimes = Sequence[float] | Array | xr.DataArray
BaselineName = Literal[
    "persistence", "climatology", "seasonal_climatology", "linear_extrapolation", "stencil", "regression"
]
DAY = 86400.0  # seconds


def persistence(initial: xr.Dataset, lead_time: LeadTimes) -> xr.Dataset:
    """The initial frame (*samples, y, x) at every lead time."""
    times = np.asarray(lead_time, dtype=np.float64)
    coordinate = xr.Variable(LEAD_TIME, times, getattr(lead_time, "attrs", None))
    repeated = initial.expand_dims({LEAD_TIME: times}).assign_coords({LEAD_TIME: coordinate})
    return ordered_fields(repeated)


@dataclass(frozen=True, eq=False)
class Climatology:
    """The mean of a training period at every grid point, by phase of a cycle (the hour of the day).

    Attributes:
        mean: (phase, y, x) fields.
        period: length of the cycle; times modulo it choose the phase.
        step: length of a phase.
    """

    mean: xr.Dataset
    period: float
    step: float

    @classmethod
    def fit(cls, training: xr.Dataset, period: float = DAY, step: float = 3600.0) -> "Climatology":
        """Average over trajectories and times of the same phase; missing values are left out.

        Args:
            training: (trajectory, time, y, x); time as datetime64, or as numbers in the units of period.
            period: in seconds where time is datetime64; `inf` for one mean over all times.
            step: frames that fall into the same step of the cycle are averaged.
        """
        phase = _phase(_seconds(training["time"]), period, step).values
        data = ordered_fields(training)
        shape = (_num_phases(period, step), data.sizes["y"], data.sizes["x"])
        sums = {name: np.zeros(shape) for name in variable_names(data)}
        counts = {name: np.zeros(shape) for name in variable_names(data)}
        for block, times in _read_blocks(data):
            for name in sums:
                values = block[name].values.astype(np.float64)
                for index in np.unique(phase[times]):
                    chosen = values[phase[times] == index]
                    sums[name][index] += np.nansum(chosen, axis=0)
                    counts[name][index] += (~np.isnan(chosen)).sum(axis=0)
        # A phase that training never saw stays missing, and so does its forecast.
        means = {name: sums[name] / np.where(counts[name] > 0, counts[name], np.nan) for name in sums}
        dims = ("phase", "y", "x")
        fields = {
            name: (dims, mean.astype(data[name].dtype), data[name].attrs) for name, mean in means.items()
        }
        return cls(xr.Dataset(fields, {dim: data[dim] for dim in ("y", "x")}, data.attrs), period, step)

    def phases(self, times: Array) -> NDArray[np.intp]:
        """The phase of each of these times [the unit of the period, or seconds]."""
        phases: NDArray[np.intp] = _phase(xr.DataArray(times), self.period, self.step).values
        return phases

    def forecast(self, like: xr.Dataset) -> xr.Dataset:
        """The mean for every valid time (initial_time + lead_time) of another forecast or the truth.

        Raises DataError where `like` has no coordinate initial_time and there is more than one phase.
        """
        if "initial_time" not in like.coords and self.mean.sizes["phase"] > 1:
            raise DataError("a climatology by phase needs the coordinate 'initial_time' of the forecasts")
        start = like.coords.get("initial_time", xr.DataArray(0.0))
        phase = _phase(_seconds(start) + like[LEAD_TIME], self.period, self.step)
        fields = self.mean[list(variable_names(like))].isel(phase=phase).assign_coords(like.coords)
        everywhere = fields.broadcast_like(like.drop_vars(variable_names(like)))
        return ordered_fields(everywhere).assign_attrs(like.attrs)


@dataclass(frozen=True, eq=False)
class LinearStencil:
    """The best linear map from a point's neighbourhood to its value one frame later, the same everywhere.

    A neighbourhood is (2 radius + 1)² points of all variables. Beyond the edges the grid's boundary
    kind decides: periodic sides wrap, walls mirror, others repeat the edge. Missing neighbours count as
    their variable's mean; a point that is missing stays missing.

    Attributes:
        variables: those it takes and gives.
        coefficients: (features + 1, C) on normalised variables, the constant last.
        mean: (C,) of the training frames.
        std: (C,) of the training frames, 1 for a constant variable.
        radius: of the neighbourhood, in points.
        step: time between training frames.
    """

    variables: tuple[str, ...]
    coefficients: Array
    mean: Array
    std: Array
    radius: int
    step: float

    @classmethod
    def fit(cls, training: xr.Dataset, radius: int = 1) -> "LinearStencil":
        """Least squares over all points and pairs of successive frames of (trajectory, time, y, x) fields.

        Raises DataError where the frames aren't equidistant in time.
        """
        variables, grid = variable_names(training), grid_of(training)
        step = _frame_step(training)
        mean, std = _moments(training)
        split = len(variables) * (2 * radius + 1) ** 2 + 1
        triangle = np.empty((0, split + len(variables)))
        for frames_NCHW in _blocks(training):
            normal = (frames_NCHW - mean[:, None, None]) / std[:, None, None]
            inputs = neighbourhood(normal[:-1], grid, radius)
            targets = np.moveaxis(normal[1:], 1, -1).reshape(len(inputs), -1)
            rows = np.concatenate([inputs, targets], axis=1)[~np.isnan(targets).any(axis=1)]
            # The triangle of a QR of all rows so far: least squares in bounded memory, without squaring the
            # condition number as normal equations would.
            triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, rows]), mode="r"))
        coefficients, *_ = np.linalg.lstsq(triangle[:, :split], triangle[:, split:])
        return cls(variables, coefficients.astype(np.float64), mean, std, radius, step)

    def forecast(self, initial: xr.Dataset, lead_time: LeadTimes) -> xr.Dataset:
        """Apply the stencil again and again to (*samples, y, x) frames.

        Raises DataError where a lead time isn't a multiple of the training's frame distance.
        """
        times = np.asarray(lead_time, dtype=np.float64)
        frame = ordered_fields(initial[list(self.variables)])
        stacked = np.stack([frame[name].values.astype(np.float64) for name in self.variables], axis=-3)
        state = stacked.reshape(-1, *stacked.shape[-3:])
        kept = [one.reshape(stacked.shape) for one in self.frames(state, times, grid_of(initial))]
        result = persistence(frame, lead_time)
        fields = np.stack(kept, axis=-4)
        return result.assign(
            {name: result[name].copy(data=fields[..., c, :, :]) for c, name in enumerate(self.variables)}
        )

    def frames(self, initial_NCHW: Array, lead_times: Array, grid: Grid) -> Iterator[Array]:
        """(N, C, H, W) frames at one lead time after the other, from frames of the stencil's variables.

        Raises DataError where a lead time isn't a multiple of the training's frame distance.
        """
        steps = np.rint(lead_times / self.step).astype(int)
        if np.any(steps < 1) or not np.allclose(steps * self.step, lead_times, rtol=1e-4):
            found = lead_times[:4].tolist()
            raise DataError(f"lead times {found} are not multiples of the stencil's step {self.step:g}")
        state, done = initial_NCHW, 0
        for step in steps:
            with np.errstate(over="ignore", invalid="ignore"):  # a linear map may amplify without bound
                for _ in range(step - done):
                    state = self._advance(state, grid)
            done = step
            yield state

    def _advance(self, state_NCHW: Array, grid: Grid) -> Array:
        normal = (state_NCHW - self.mean[:, None, None]) / self.std[:, None, None]
        following = neighbourhood(normal, grid, self.radius) @ self.coefficients
        n, c, h, w = state_NCHW.shape
        physical = following.reshape(n, h, w, c) * self.std + self.mean
        return np.where(np.isnan(state_NCHW), np.nan, np.moveaxis(physical, -1, 1))


def _frame_step(training: xr.Dataset) -> float:
    distances = np.diff(_seconds(training["time"]).values)
    if len(distances) == 0 or not np.allclose(distances, distances[0], rtol=1e-4):
        raise DataError(f"a stencil needs frames at equal distances in time; found {distances[:4].tolist()}")
    return float(distances.mean())


def _moments(training: xr.Dataset) -> tuple[Array, Array]:
    """(C,) mean and standard deviation of each variable; 1 for the deviation of a constant."""
    names = variable_names(training)
    count, mean, squares = (np.zeros(len(names)) for _ in range(3))
    for block, _ in _read_blocks(ordered_fields(training)):
        for c, name in enumerate(names):
            values = block[name].values.astype(np.float64)
            number = np.count_nonzero(~np.isnan(values))
            if number == 0:
                continue
            own = np.nanmean(values)
            # Chan's rule: a block's moments about its own mean, moved to the mean of all.
            share, apart = number / (count[c] + number), own - mean[c]
            squares[c] += np.nansum((values - own) ** 2) + apart**2 * count[c] * share
            mean[c] += apart * share
            count[c] += number
    std = np.sqrt(squares / np.maximum(count, 1))
    return np.where(count > 0, mean, np.nan), np.where(std > 0, std, 1.0)


def _read_blocks(
    training: xr.Dataset, points: int = 2**18, shared: int = 0
) -> Iterator[tuple[xr.Dataset, NDArray[np.intp]]]:
    """(time, y, x) frames of one trajectory, at most about `points` points, and their positions in time.

    Successive blocks of a trajectory share so many frames.
    """
    data = training if "trajectory" in training.dims else training.expand_dims("trajectory")
    data = data.transpose("trajectory", "time", ...)
    length = max(1, points // (data.sizes["y"] * data.sizes["x"]))
    for trajectory in range(data.sizes["trajectory"]):
        for start in range(0, data.sizes["time"] - shared, length):
            times = np.arange(start, min(start + length + shared, data.sizes["time"]))
            yield data.isel(trajectory=trajectory, time=slice(start, start + length + shared)), times


def _blocks(training: xr.Dataset) -> Iterator[Array]:
    """(N, C, H, W) successive frames of one trajectory; the last frame of a block is the first of the next."""
    for block, _ in _read_blocks(ordered_fields(training), shared=1):
        yield np.stack([block[name].values.astype(np.float64) for name in variable_names(block)], axis=1)


def neighbourhood(frames_NCHW: Array, grid: Grid, radius: int) -> Array:
    """(N·H·W, C·(2 radius + 1)² + 1) the neighbourhood of every point and a constant; missing is 0."""
    padded = _padded(np.nan_to_num(frames_NCHW, nan=0.0, posinf=np.inf, neginf=-np.inf), grid, radius)
    width = 2 * radius + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width), axis=(-2, -1))
    columns = np.moveaxis(windows, 1, 3).reshape(frames_NCHW[:, 0].size, -1)
    return np.concatenate([columns, np.ones((len(columns), 1))], axis=1)


def _padded(frames: Array, grid: Grid, radius: int) -> Array:
    for axis, sides in ((-2, grid.boundary_y), (-1, grid.boundary_x)):
        frames = _pad_axis(frames, axis, sides, radius)
    return frames


def _pad_axis(frames: Array, axis: int, sides: Sides, radius: int) -> Array:
    beyond: dict[str, Literal["wrap", "symmetric"]] = {"periodic": "wrap", "wall": "symmetric"}
    parts = [frames]
    for low, kind in zip((True, False), sides, strict=True):
        widths = [(0, 0)] * frames.ndim
        widths[axis] = (radius, 0) if low else (0, radius)
        padded = np.pad(frames, widths, mode=beyond.get(kind, "edge"))
        edge = np.take(padded, range(radius) if low else range(-radius, 0), axis=axis)
        parts = [edge, *parts] if low else [*parts, edge]
    return np.concatenate(parts, axis=axis)


def _seconds(times: xr.DataArray) -> xr.DataArray:
    """Seconds since 1970 of dates; numbers as they are."""
    if times.dtype == object:
        return times.copy(data=dates.seconds(times.values))
    if np.issubdtype(times.dtype, np.datetime64):
        return (times - np.datetime64(0, "s")) / np.timedelta64(1, "s")
    return times.astype(np.float64)


def _phase(times: xr.DataArray, period: float, step: float) -> xr.DataArray:
    if np.isinf(period):
        return xr.zeros_like(times, dtype=np.intp)
    # A millionth of a step keeps 3 * 0.1 in the phase of 0.3.
    phase = (times % period / step + 1e-6).astype(np.intp)
    return phase % _num_phases(period, step)


def _num_phases(period: float, step: float) -> int:
    return 1 if np.isinf(period) else int(np.ceil(period / step - 1e-6))
