"""Fields: what a store takes from a dataset in the one convention, and in which form.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal, get_args

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from pelagos.preprocessing.coarsen import coarse_grid, coarsen
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError, PelagosError
from pelagos.preprocessing.forcing import FORCINGS, ForcingName
from pelagos.preprocessing.forcing import variable as forcing_variable
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.rounding import round_mantissa
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.split import Range, resolve
from pelagos.preprocessing.variables import Role, Variable, keys, known

_PIECE = 32 << 20  # bytes that are read from a source at a time
_ORDER: tuple[Role, ...] = ("prognostic", "forcing", "diagnostic")


class Conversion(Config):
    """A change of units: new = scale * old + offset."""

    units: str
    scale: float = 1.0
    offset: float = 0.0


class Log1p(Config):
    """ln(1 + x / scale), for fields such as precipitation that are small nearly everywhere."""

    kind: Literal["log1p"] = "log1p"
    scale: float = Field(1.0, gt=0)

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical to stored values."""
        return np.log1p(values / self.scale)

    def inverse(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Stored to physical values."""
        return np.expm1(values) * self.scale


class Subset(Config):
    """The part of the data that is taken: ranges [start, stop) and every so many frames."""

    trajectories: Range = (None, None)
    time: Range = (None, None)
    every: PositiveInt = 1


class FieldOptions(Config):
    """Which fields a store takes and in which form; names are those after `rename`.

    Attributes:
        variables: the fields taken, in this order; all by default.
        rename: new names of fields and scalars.
        roles: changed roles.
        levels: the levels taken; all by default. Each becomes a channel `name@level`.
        convert: changes of units.
        transforms: functions of the values, after the change of units.
        forcings: channels computed from time and place, for dated fields on latitudes and longitudes.
        subset: of trajectories and times.
        coarsen: side of the blocks of cells whose mean is taken.
        bits: mantissa bits kept, at most 22; all 23 by default. The error made is recorded.
        missing: whether NaN is an error or stays, as over sea; infinite values always are errors.
    """

    variables: tuple[str, ...] | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    roles: dict[str, Role] = Field(default_factory=dict)
    levels: tuple[float, ...] | None = None
    convert: dict[str, Conversion] = Field(default_factory=dict)
    transforms: dict[str, Log1p] = Field(default_factory=dict)
    forcings: tuple[ForcingName, ...] = ()
    subset: Subset = Subset()
    coarsen: PositiveInt = 1
    bits: dict[str, Annotated[int, Field(ge=1, le=22)]] = Field(default_factory=dict)
    missing: Literal["error", "keep"] = "error"


@dataclass(frozen=True)
class Channel:
    """One channel of a store and how it comes from the source.

    Attributes:
        variable: as stored.
        source: the data variable; empty for a computed forcing.
        level: position on the level axis.
        conversion: of units.
        transform: after it.
        bits: of mantissa that are kept.
        attrs: CF attributes of the source that the variable does not carry.
    """

    variable: Variable
    source: str
    level: int | None = None
    conversion: Conversion | None = None
    transform: Log1p | None = None
    bits: int | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)

    def finish(self, values: NDArray[Any]) -> NDArray[Any]:
        """Source to stored values, before rounding."""
        if self.conversion is not None:
            values = values.astype(np.float64) * self.conversion.scale + self.conversion.offset
        if self.transform is not None:
            values = self.transform.forward(values.astype(np.float64))
        return values


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of one dataset, read in blocks as they will be stored.

    Attributes:
        dataset: in the convention, after renaming and selection; lazy.
        grid: of the stored fields.
        axis: (T,) dates, or times in `time_units`.
        time_units: of the axis; seconds where it has dates.
        state: channels that depend on time: prognostic, forcing, diagnostic.
        static: channels that do not.
        params: (N,) values of each scalar, NaN where missing.
        options: as configured.
    """

    dataset: xr.Dataset
    grid: Grid
    axis: NDArray[Any]
    time_units: str
    state: tuple[Channel, ...]
    static: tuple[Channel, ...]
    params: dict[str, NDArray[np.float64]]
    options: FieldOptions

    @property
    def num_trajectories(self) -> int:
        """N."""
        return int(self.dataset.sizes["trajectory"])

    @property
    def varying_static(self) -> bool:
        """Whether some static field differs between trajectories."""
        return any("trajectory" in self.dataset[channel.source].dims for channel in self.static)

    def read(self, trajectories: slice, times: slice) -> NDArray[np.float32]:
        """(N, T, C, H, W) stored values, not yet rounded.

        Raises:
            DamagedFileError: the source cannot be read; the message names its files.
        """
        shape = (trajectories.stop - trajectories.start, times.stop - times.start)
        out = np.empty((*shape, len(self.state), *self.grid.shape), np.float32)
        for number, channel in enumerate(self.state):
            if not channel.source:
                name: Any = channel.variable.name
                out[:, :, number] = FORCINGS[name](self.axis[times], self.grid)
        for source in dict.fromkeys(channel.source for channel in self.state if channel.source):
            array = self.dataset[source]
            for rows, columns in _pieces(shape, array):
                where = {"trajectory": _shifted(rows, trajectories), "time": _shifted(columns, times)}
                self._place(out[rows, columns], self.state, source, array.isel(where))
        return out

    def read_static(self, trajectories: slice) -> NDArray[np.float32]:
        """(N, C, H, W) stored static fields; N is 1 where no field differs between trajectories.

        Raises:
            DamagedFileError: the source cannot be read; the message names its files.
        """
        num = trajectories.stop - trajectories.start if self.varying_static else 1
        out = np.empty((num, len(self.static), *self.grid.shape), np.float32)
        for channel in self.static:
            array = self.dataset[channel.source]
            where = {"trajectory": trajectories} if "trajectory" in array.dims else {}
            self._place(out, self.static, channel.source, array.isel(where))
        return out

    def _place(
        self, out: NDArray[np.float32], channels: tuple[Channel, ...], source: str, array: xr.DataArray
    ) -> None:
        """Write what `array` holds into its channels of `out` (..., C, H, W)."""
        values = self._load(source, array)
        for number, channel in enumerate(channels):
            if channel.source == source:
                # The level axis stands before y and x.
                part = values if channel.level is None else values[..., channel.level, :, :]
                self._place_channel(out[..., number, :, :], channel, part)

    def _place_channel(self, out: NDArray[np.float32], channel: Channel, values: NDArray[Any]) -> None:
        # What overflows becomes infinite here, and is reported when all is checked.
        with np.errstate(all="ignore"):
            if self.options.coarsen == 1 and channel.conversion is None and channel.transform is None:
                out[:] = values
                return
            # Frame by frame: intermediate values are float64.
            for index in np.ndindex(values.shape[:-2]):
                frame = values[index]
                if self.options.coarsen > 1:
                    frame = coarsen(frame, self._fine_grid, self.options.coarsen)
                out[index if len(index) == out.ndim - 2 else ...] = channel.finish(frame)

    @cached_property
    def _fine_grid(self) -> Grid:
        return convention.grid_of(self.dataset)

    def _load(self, source: str, array: xr.DataArray) -> NDArray[Any]:
        try:
            # A worker of Dask must not wait for itself.
            with dask.config.set(scheduler="synchronous"):
                return np.asarray(array.values)
        except PelagosError:
            raise
        except Exception as error:
            files = ", ".join(self.sources[:4]) + (", ..." if len(self.sources) > 4 else "")
            raise DamagedFileError(f"{files}: cannot read {source}: {error}") from error

    @property
    def sources(self) -> list[str]:
        """The files and folders that the dataset comes from."""
        return [str(path) for path in json.loads(self.dataset.attrs["sources"])]

    def round(self, block: NDArray[np.float32]) -> NDArray[np.float64]:
        """Round (N, T, C, H, W) in place; the largest relative error in each channel."""
        errors = np.zeros(len(self.state))
        for number, channel in enumerate(self.state):
            if channel.bits is not None:
                frames = (block[n, t, number] for n, t in np.ndindex(block.shape[:2]))
                errors[number] = max((round_mantissa(frame, channel.bits) for frame in frames), default=0.0)
        return errors


def _shifted(piece: slice, whole: slice) -> slice:
    return slice(whole.start + piece.start, whole.start + piece.stop)


def _pieces(shape: tuple[int, int], array: xr.DataArray) -> Iterator[tuple[slice, slice]]:
    """Blocks of trajectories and times that cover a shape, each of bounded size in the source."""
    num, length = shape
    frame_bytes = array.dtype.itemsize * prod(array.shape[2:])
    frames = max(1, _PIECE // frame_bytes)
    rows, columns = max(1, frames // length), min(frames, length)
    for row in range(0, num, rows):
        for column in range(0, length, columns):
            yield slice(row, min(row + rows, num)), slice(column, min(column + columns, length))


def select(ds: xr.Dataset, options: FieldOptions) -> Fields:
    """The fields that the options take from a dataset; reads coordinates and scalars only.

    Raises:
        ConfigError: an option names what the dataset does not have.
        DataError: the dataset is not in the convention, or its times are not evenly spaced.
    """
    convention.check(ds)
    ds = _subset(_renamed(ds, options), options)
    convention.check(ds)
    grid = coarse_grid(convention.grid_of(ds), options.coarsen)
    axis, time_units = _time_axis(ds)
    names = list(options.variables or _fields_of(ds))
    channels = [channel for name in names for channel in _channels(ds, name, options)]
    channels += [_forcing(name, axis, grid) for name in options.forcings]
    state = [channel for role in _ORDER for channel in channels if channel.variable.role == role]
    static = [channel for channel in channels if channel.variable.role == "static"]
    _check_unique([channel.variable for channel in (*state, *static)])
    if not state:
        raise ConfigError(f"variables: of {names} none depends on time")
    return Fields(ds, grid, axis, time_units, tuple(state), tuple(static), _params(ds), options)


def _fields_of(ds: xr.Dataset) -> list[str]:
    return convention.in_role(ds, *get_args(Role))


def _renamed(ds: xr.Dataset, options: FieldOptions) -> xr.Dataset:
    if unknown := set(options.rename) - set(ds.data_vars):
        raise ConfigError(f"rename: no variable {min(unknown)!r}; there are {sorted(map(str, ds.data_vars))}")
    try:
        ds = ds.rename_vars(options.rename)
    except ValueError as error:
        raise ConfigError(f"rename: {error}") from error
    fields = set(_fields_of(ds))
    named = {
        "variables": set(options.variables or ()),
        "roles": set(options.roles),
        "convert": set(options.convert),
        "transforms": set(options.transforms),
        "bits": set(options.bits),
    }
    for option, names in named.items():
        if unknown := names - fields:
            raise ConfigError(f"{option}: no field {min(unknown)!r}; there are {sorted(fields)}")
    if static := named["bits"] & set(convention.in_role(ds, "static")):
        raise ConfigError(f"bits: {min(static)!r} is static; only fields that depend on time are rounded")
    return ds.assign({name: ds[name].assign_attrs(role=role) for name, role in options.roles.items()})


def _subset(ds: xr.Dataset, options: FieldOptions) -> xr.Dataset:
    subset = options.subset
    time = resolve(subset.time, ds["time"].values, "subset.time")
    trajectories = resolve(subset.trajectories, np.arange(ds.sizes["trajectory"]), "subset.trajectories")
    ds = ds.isel(time=slice(time.start, time.stop, subset.every), trajectory=trajectories)
    if options.levels is None:
        return ds
    if "level" not in ds.dims:
        raise ConfigError("levels: no field has levels")
    found = ds["level"].values.tolist()
    if absent := [level for level in options.levels if level not in found]:
        raise ConfigError(f"levels: no level {absent[0]:g}; there are {found}")
    return ds.isel(level=[found.index(level) for level in options.levels])


def _channels(ds: xr.Dataset, name: str, options: FieldOptions) -> Iterator[Channel]:
    array = ds[name]
    table, conversion = known(name), options.convert.get(name)
    variable = Variable(
        name=name,
        units=conversion.units if conversion else array.attrs["units"],
        role=array.attrs["role"],
        group=array.attrs.get("group", table.group),
        long_name=array.attrs.get("long_name", table.long_name),
    )
    attrs = {key: str(array.attrs[key]) for key in ("standard_name", "cell_methods") if key in array.attrs}
    transform, bits = options.transforms.get(name), options.bits.get(name)
    levels = ds["level"].values.tolist() if "level" in array.dims else [None]
    for position, level in enumerate(levels):
        yield Channel(
            variable=variable.model_copy(update={"level": level}),
            source=name,
            level=None if level is None else position,
            conversion=conversion,
            transform=transform,
            bits=bits,
            attrs=attrs,
        )


def _forcing(name: ForcingName, axis: NDArray[Any], grid: Grid) -> Channel:
    if axis.dtype.kind != "M":
        raise ConfigError(f"forcings: {name} needs dates, but time counts in numbers")
    if grid.kind != "latlon":
        raise ConfigError(f"forcings: {name} needs longitudes, but the grid is {grid.kind}")
    return Channel(variable=forcing_variable(name), source="")


def _check_unique(variables: list[Variable]) -> None:
    found = keys(variables)
    if doubled := [key for key in found if found.count(key) > 1]:
        raise ConfigError(f"variables: {doubled[0]!r} would be stored twice")


def _time_axis(ds: xr.Dataset) -> tuple[NDArray[Any], str]:
    """Dates to the second, or numbers and their units; evenly spaced."""
    axis = ds["time"].values
    units = ds["time"].attrs.get("units", "1")
    if axis.dtype.kind == "M":
        seconds, units = axis.astype("datetime64[s]"), "s"
        if (seconds != axis).any():
            raise DataError(f"{ds.attrs['dataset']}: times within a second cannot be stored")
        axis = seconds
    steps = np.diff(axis).astype(np.float64)
    if len(steps) and (odd := np.flatnonzero(np.abs(steps - steps[0]) > 1e-3 * abs(steps[0]))).size:
        frame = int(odd[0])
        raise DataError(
            f"{ds.attrs['dataset']}: times are not evenly spaced: frames 0 and 1 are {steps[0]:g} {units} "
            f"apart, frames {frame} and {frame + 1} {steps[frame]:g}, at {axis[frame]}; see subset.time"
        )
    return axis, units


def _params(ds: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    num = ds.sizes["trajectory"]
    params = {
        name: np.broadcast_to(ds[name].values.astype(np.float64), num).copy()
        for name in convention.in_role(ds, "scalar")
    }
    for name, values in params.items():
        if np.isinf(values).any():
            raise DataError(f"{ds.attrs['dataset']}: scalar {name} is infinite in some trajectory")
    return params
