"""FieldReader: reads the fields of a source in blocks, as a store will hold them.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import DamagedFileError, PelagosError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.mantissa import round_mantissa
from pelagos.preprocessing.fields.solar_forcing import FORCINGS, place_field, time_between
from pelagos.preprocessing.fields.store_channel import StoreChannel
from pelagos.preprocessing.fields.target_grid import TargetGrid
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.quantities.units import conversion

# A source may copy what it reads. In quarters a shard took 1.45 times its size in memory, so it takes 1.1 times.
_PIECES = 16
_PIECE = 1 << 20  # bytes read at a time at least


@dataclass(frozen=True, eq=False)
class FieldReader:
    """Reads the fields of one dataset in blocks, as they will be stored.

    Attributes:
        dataset: the lazy dataset in the convention, after renaming and selection.
        target: the grid of the stored fields, and the way there from the dataset's.
        axis: (T,) dates, or times in `time_units`.
        time_units: units of the axis; seconds where it has dates.
        state: channels that depend on time: prognostic, forcing, diagnostic.
        static: channels that do not depend on time.
        params: (N,) the values of each scalar, NaN where missing.
        options: the options as configured.
    """

    dataset: xr.Dataset
    target: TargetGrid
    axis: NDArray[Any]
    time_units: str
    state: tuple[StoreChannel, ...]
    static: tuple[StoreChannel, ...]
    params: dict[str, NDArray[np.float64]]
    options: FieldOptions

    @property
    def grid(self) -> Grid:
        """The grid of the stored fields."""
        return self.target.grid

    @property
    def num_trajectories(self) -> int:
        """The number N of trajectories."""
        return int(self.dataset.sizes["trajectory"])

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N, T) which frames exist: trajectories may end at different times."""
        everything = np.ones((self.num_trajectories, len(self.axis)), bool)
        return np.asarray(self.dataset.coords.get("present", everything))

    @property
    def varying_static(self) -> bool:
        """Whether any static field differs between trajectories."""
        return any(
            "trajectory" in self.dataset[channel.source].dims for channel in self.static if channel.source
        )

    def read(self, trajectories: slice, times: slice) -> NDArray[np.float32]:
        """(N, T, C, H, W) stored values, not yet rounded.

        Raises:
            DamagedFileError: the source cannot be read; the message names its files.
        """
        shape = (trajectories.stop - trajectories.start, times.stop - times.start)
        out = np.empty((*shape, len(self.state), *self.grid.shape), np.float32)
        for number, rows, values in self.computed(trajectories, times):
            out[rows, :, number] = values
        # Each field of the source once, however many of its levels are channels.
        for source in dict.fromkeys(channel.source for channel in self.state if channel.source):
            array = self.dataset[source]
            for rows, columns in _pieces(shape, array, max(_PIECE, out.nbytes // _PIECES)):
                where = {"trajectory": _shifted(rows, trajectories), "time": _shifted(columns, times)}
                self._store(out[rows, columns], self.state, source, array.isel(where))
        return out

    def computed(self, trajectories: slice, times: slice) -> Iterator[tuple[int, slice, Floats]]:
        """The number of each computed channel of the state, rows of the block, and its values there (T, H, W)."""
        for number, channel in enumerate(self.state):
            if not channel.source:
                name: Any = channel.variable.name
                for rows, valid, step in self._dates(trajectories, times):
                    yield number, rows, FORCINGS[name](valid, self.grid, step)

    def computed_static(self) -> Iterator[tuple[int, Floats]]:
        """The number of each computed static channel, and its values (H, W)."""
        for number, channel in enumerate(self.static):
            if not channel.source:
                name: Any = channel.variable.name
                yield number, place_field(name, self.grid)

    def _dates(self, trajectories: slice, times: slice) -> Iterator[tuple[slice, NDArray[Any], float]]:
        """The dates at which the frames of trajectories are valid, of all or of each forecast, and between them [s]."""
        axis = self.axis[times]
        if dates.is_dated(axis):
            yield slice(None), axis, time_between(self.axis)
            return
        scale, _ = conversion(self.time_units, "s")
        starts = self.dataset["start"].values[trajectories]
        for row, start in enumerate(dates.seconds(starts)):
            valid = dates.from_seconds(np.rint(start + scale * axis), starts)
            yield slice(row, row + 1), valid, scale * float(np.diff(self.axis[:2]).sum())

    def read_static(self, trajectories: slice) -> NDArray[np.float32]:
        """(N, C, H, W) stored static fields; N is 1 where no field differs between trajectories.

        Raises:
            DamagedFileError: the source cannot be read; the message names its files.
        """
        num = trajectories.stop - trajectories.start if self.varying_static else 1
        out = np.empty((num, len(self.static), *self.grid.shape), np.float32)
        for number, values in self.computed_static():
            out[:, number] = values
        for channel in self.static:
            if channel.source:
                array = self.dataset[channel.source]
                where = {"trajectory": trajectories} if "trajectory" in array.dims else {}
                self._store(out, self.static, channel.source, array.isel(where))
        return out

    def exact(self, trajectory: int, times: slice) -> Iterator[tuple[int, NDArray[Any]]]:
        """The number of each channel of the state but computed ones, and its values (T, H, W) before they are float32.

        Raises:
            DamagedFileError: the source cannot be read; the message names its files.
        """
        for source in dict.fromkeys(channel.source for channel in self.state if channel.source):
            array = self.dataset[source].isel(trajectory=trajectory, time=times)
            yield from self._exact(self.state, source, self._load(source, array))

    def exact_static(self, trajectory: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The number of each static channel but computed ones, and its values (1, H, W) before they become float32.

        Raises:
            DamagedFileError: the source cannot be read; the message names its files.
        """
        for source in dict.fromkeys(channel.source for channel in self.static if channel.source):
            array = self.dataset[source]
            where = {"trajectory": trajectory} if "trajectory" in array.dims else {}
            yield from self._exact(self.static, source, self._load(source, array.isel(where))[None])

    def _exact(
        self, channels: tuple[StoreChannel, ...], source: str, values: NDArray[Any]
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Frames (T, [level,] H, W) of a source as the channels that come from it."""
        for number, channel in enumerate(channels):
            if channel.source == source:
                part = values if channel.level is None else values[:, channel.level]
                with np.errstate(all="ignore"):  # as where values are stored
                    stored = np.stack([channel.to_stored(self.target(frame)) for frame in part])
                yield number, stored

    def _store(
        self, out: NDArray[np.float32], channels: tuple[StoreChannel, ...], source: str, array: xr.DataArray
    ) -> None:
        """Write the values of `array` to the channels of `out` (..., C, H, W) that come from it."""
        values = self._load(source, array)
        for number, channel in enumerate(channels):
            if channel.source == source:
                # The convention puts the level axis right before y and x.
                part = values if channel.level is None else values[..., channel.level, :, :]
                self._store_channel(out[..., number, :, :], channel, part)

    def _store_channel(self, out: NDArray[np.float32], channel: StoreChannel, values: NDArray[Any]) -> None:
        # Values that overflow float32 become infinite, which the check of the block reports with their place.
        with np.errstate(all="ignore"):
            if not self.target.steps and channel.stored_as_is:
                out[:] = values
                return
            # Frame by frame: intermediate values are float64 and would take twice a block's memory.
            for index in np.ndindex(values.shape[:-2]):
                out[index if len(index) == out.ndim - 2 else ...] = channel.to_stored(
                    self.target(values[index])
                )

    def _load(self, source: str, array: xr.DataArray) -> NDArray[Any]:
        try:
            # In this thread: a worker of Dask that waits for another task may wait for itself.
            return np.asarray(array.compute(scheduler="synchronous").values)
        except PelagosError:
            raise
        except Exception as error:
            files = ", ".join(self.sources[:4]) + (", ..." if len(self.sources) > 4 else "")
            raise DamagedFileError(f"{files}: cannot read {source}: {error}") from error

    @property
    def sources(self) -> list[str]:
        """The files, folders and URLs that the dataset comes from."""
        return [str(path) for path in json.loads(self.dataset.attrs["sources"])]

    @property
    def files_read(self) -> list[str]:
        """The sources, and what was read beside them: the file that says where cells lie."""
        grid_file = str(self.dataset.attrs.get("grid_file", ""))
        return [*self.sources, *([grid_file] if grid_file else [])]

    def round(self, block: NDArray[np.float32]) -> NDArray[np.float64]:
        """Round a block (N, T, C, H, W) in place; return the largest relative error (C,) of each channel."""
        errors = np.zeros(len(self.state))
        for number, channel in enumerate(self.state):
            if channel.bits is not None:
                frames = (block[n, t, number] for n, t in np.ndindex(block.shape[:2]))
                errors[number] = max((round_mantissa(frame, channel.bits) for frame in frames), default=0.0)
        return errors


def _shifted(piece: slice, whole: slice) -> slice:
    return slice(whole.start + piece.start, whole.start + piece.stop)


def _pieces(shape: tuple[int, int], array: xr.DataArray, limit: int) -> Iterator[tuple[slice, slice]]:
    """Cut trajectories and times into blocks of at most `limit` bytes in the source, or of one frame."""
    num, length = shape
    frame_bytes = array.dtype.itemsize * prod(array.shape[2:])
    frames = max(1, limit // frame_bytes)
    rows, columns = max(1, frames // length), min(frames, length)
    for row in range(0, num, rows):
        for column in range(0, length, columns):
            yield slice(row, min(row + rows, num)), slice(column, min(column + columns, length))
