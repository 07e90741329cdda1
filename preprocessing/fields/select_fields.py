"""Selecting the fields that a store takes from a dataset, checked before any of them is read."""

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.accumulation import say_sums, step_sums, sums_as_diagnostics
from pelagos.preprocessing.fields.field_options import FieldOptions, Subset
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.marked_values import without_marks
from pelagos.preprocessing.fields.solar_forcing import (
    ForcingName,
    PlaceName,
    forcing_variable,
    place_variable,
)
from pelagos.preprocessing.fields.store_channel import LinearConversion, StoreChannel
from pelagos.preprocessing.fields.target_grid import target_grid
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.store.split import resolve_range, without_years
from pelagos.preprocessing.variables import Role, Variable, keys, known_variable

_KEPT = ("standard_name", "cell_methods", "poseidon_offset")
"""Attributes of a source's fields that a store's channels keep."""

_ORDER: tuple[Role, ...] = ("prognostic", "forcing", "diagnostic")
"""The order of roles among the channels of a store, whatever the order of `variables`."""


def select_fields(ds: xr.Dataset, options: FieldOptions) -> FieldReader:
    """The reader of the fields that the options take from a dataset; reads coordinates and scalars only.

    Raises:
        ConfigError: an option names something that the dataset does not have.
        DataError: the dataset does not follow the convention, or its times are not evenly spaced.
    """
    convention.check(ds)
    # Marks first: sums, differences and means of them would be neither marks nor values.
    ds = _subset(without_marks(_renamed(ds, options), options.marks), options)
    # Again: renaming and new roles may break what held before.
    convention.check(ds)
    ds, target = target_grid(ds, options)
    axis, time_units = _time_axis(ds)
    names = list(options.variables or _fields_of(ds))
    _require_held(ds, names)
    channels = [channel for name in names for channel in _channels(ds, name, options)]
    dated = dates.is_dated(axis) or "start" in ds.coords
    channels += [_forcing(name, dated, target.grid) for name in options.forcings]
    channels += [_place(name, target.grid) for name in options.places]
    state = [channel for role in _ORDER for channel in channels if channel.variable.role == role]
    static = [channel for channel in channels if channel.variable.role == "static"]
    _check_unique([channel.variable for channel in (*state, *static)])
    if not state:
        raise ConfigError(f"variables: none of {names} depends on time; take at least one that does")
    return FieldReader(ds, target, axis, time_units, tuple(state), tuple(static), _params(ds), options)


def _require_held(ds: xr.Dataset, names: list[str]) -> None:
    """Raise DataError where a field has no frame at a time that the subset leaves."""
    held = {
        name: np.asarray(ds[key].values)
        for name in names
        if name in ds and (key := ds[name].attrs.get(convention.HELD))
    }
    late = [name for name, there in held.items() if not there.all()]
    if not late:
        return
    name, times = min(late, key=lambda one: int(np.argmin(held[one]))), ds["time"].values
    first = int(np.argmin(held[name]))
    everywhere = np.logical_and.reduce(list(held.values()))
    single = [one for one in late if held[one].sum() == 1]
    if single and len(times) > 2:
        raise DataError(
            f"{ds[single[0]].attrs['file']}: {single[0]} has a single frame, where other fields have {len(times)}; say"
            f" roles: {{{single[0]}: static}} where it does not change with time, or leave it out by variables"
        )
    raise DataError(
        f"{ds[name].attrs['file']}: {name} has no frame at {_shown(times[first])}, where other fields have one;"
        f" {_common_times(times, everywhere)} leave it out by variables"
    )


def _common_times(times: NDArray[Any], everywhere: NDArray[np.bool_]) -> str:
    """The longest range of times without a gap, as a subset."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], everywhere.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return "no time is common to all;"
    longest = int(np.argmax(stops - starts))
    start, stop = int(starts[longest]), int(stops[longest])
    if not dates.is_dated(times):
        return f"set subset: {{times: [{times[start]:g}, {times[stop - 1]:g}]}}, or"
    end = dates.text_of(times[stop]) if stop < len(times) else "null"
    return f"set subset: {{time: [{dates.text_of(times[start])}, {end}]}}, or"


def _shown(time: Any) -> str:
    return f"{time:g}" if isinstance(time, float) else dates.text_of(time)


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
        "deaccumulate": set(options.deaccumulate),
        "convert": set(options.convert),
        "transforms": set(options.transforms),
        "bits": set(options.bits),
        "marks": set(options.marks),
    }
    for option, names in named.items():
        if unknown := names - fields:
            raise ConfigError(f"{option}: no field {min(unknown)!r}; there are {sorted(fields)}")
    if static := named["bits"] & set(convention.in_role(ds, "static")):
        raise ConfigError(f"bits: {min(static)!r} is static; only fields that depend on time can be rounded")
    return ds.assign({name: _in_role(ds, name, role) for name, role in options.roles.items()})


def _in_role(ds: xr.Dataset, name: str, role: Role) -> xr.Variable:
    """A field in another role; without time where it has a single frame and is to be static."""
    variable = ds[name].variable.copy(deep=False)
    variable.attrs = {**variable.attrs, "role": role}
    if role != "static" or "time" not in variable.dims:
        return variable
    frames = _frames(ds, name)
    if len(frames) == 1:  # such as a mask of land, which archives date like all else
        variable = variable.isel(time=int(frames[0]))
        variable.attrs.pop(convention.HELD, None)
        return variable.isel(trajectory=0) if ds.sizes["trajectory"] == 1 else variable
    return variable


def _frames(ds: xr.Dataset, name: str) -> NDArray[np.int64]:
    """The frames that a field has."""
    key = ds[name].attrs.get(convention.HELD)
    return np.flatnonzero(ds[key].values) if key else np.arange(ds.sizes["time"])


def _subset(ds: xr.Dataset, options: FieldOptions) -> xr.Dataset:
    subset = options.subset
    time = _times(ds["time"].values, subset)
    trajectories = resolve_range(
        subset.trajectories, np.arange(ds.sizes["trajectory"]), "subset.trajectories"
    )
    # Before frames are left out: the first step of a period begins with the frame before it.
    ds = step_sums(ds, options.deaccumulate, np.arange(time.start, time.stop, subset.every), subset.every)
    say_sums(ds, options.deaccumulate)
    ds = sums_as_diagnostics(ds, options.deaccumulate, options.roles)
    ds = ds.isel(time=slice(time.start, time.stop, subset.every), trajectory=trajectories)
    if options.levels is None and subset.level is None:
        return ds
    if "level" not in ds.dims:
        raise ConfigError(f"{'levels' if options.levels else 'subset.level'}: no field has levels")
    if subset.level is not None:
        ds = _planes(ds, _inside(ds["level"].values, subset.level, "subset.level").tolist())
    if options.levels is None:
        return ds
    # Compared as channels are named: a coordinate in single precision differs from the number a person writes.
    found = [f"{level:g}" for level in ds["level"].values]
    if absent := [level for level in options.levels if f"{level:g}" not in found]:
        raise ConfigError(f"levels: no level {absent[0]:g}; there are [{', '.join(found)}]")
    return _planes(ds, [found.index(f"{level:g}") for level in options.levels])


def _planes(ds: xr.Dataset, positions: list[int]) -> xr.Dataset:
    """The dataset on some of its levels; an end of a 3-D field that is left out becomes open, like a region's sides."""
    kept = [end in positions for end in (0, ds.sizes["level"] - 1)]
    ds = ds.isel(level=positions)
    if "boundary" in ds["level"].attrs and not all(kept):
        kinds = zip(kept, ds["level"].attrs["boundary"].split(","), strict=True)
        ends = [kind if here and kind != "periodic" else "open" for here, kind in kinds]
        ds = ds.assign_coords(level=ds["level"].assign_attrs(boundary=",".join(ends)))
    return ds


def _times(axis: NDArray[Any], subset: Subset) -> slice:
    if subset.times is None:
        ((option, bounds),) = without_years({"subset.time": subset.time}, axis).items()
        return resolve_range(bounds, axis, option)
    if subset.time != (None, None):
        raise ConfigError("subset: time and times both select frames; give only one of them")
    if dates.is_dated(axis):
        raise ConfigError("subset.times: the data have dates; give dates as subset.time")
    frames = _inside(axis, subset.times, "subset.times")
    return slice(int(frames[0]), int(frames[-1]) + 1)


def _inside(axis: NDArray[Any], bounds: tuple[float, float], name: str) -> NDArray[np.int64]:
    """The positions on an axis whose values lie within bounds, both included."""
    # A person writes 0.3 for 3 * 0.1 and for 0.3 in single precision.
    slack = 1e-3 * float(np.abs(np.diff(axis)).min()) if len(axis) > 1 else 1e-6 * abs(float(axis[0]))
    inside = (axis >= min(bounds) - slack) & (axis <= max(bounds) + slack)
    if not inside.any():
        raise ConfigError(
            f"{name}: nothing lies within {list(bounds)}; the values reach from {axis.min():g} to {axis.max():g}"
        )
    return np.flatnonzero(inside)


def _channels(ds: xr.Dataset, name: str, options: FieldOptions) -> Iterator[StoreChannel]:
    array = ds[name]
    table, conversion = known_variable(name), _conversion(array, name, options)
    variable = Variable(
        name=name,
        units=options.convert[name].units if conversion else array.attrs["units"],
        role=array.attrs["role"],
        group=array.attrs.get("group", table.group),
        long_name=array.attrs.get("long_name", table.long_name),
        transform=options.transforms.get(name),
    )
    attrs = {key: str(array.attrs[key]) for key in _KEPT if key in array.attrs}
    if conversion is not None:
        attrs.pop("poseidon_offset", None)  # in the old units
    levels = ds["level"].values.tolist() if "level" in array.dims else [None]
    for position, level in enumerate(levels):
        yield StoreChannel(
            variable=variable.model_copy(update={"level": level}),
            source=name,
            level=None if level is None else position,
            conversion=conversion,
            bits=options.bits.get(name),
            attrs=attrs,
        )


def _conversion(array: xr.DataArray, name: str, options: FieldOptions) -> LinearConversion | None:
    wanted = options.convert.get(name)
    return None if wanted is None else wanted.build(name, array.attrs["units"])


def _forcing(name: ForcingName, dated: bool, grid: Grid) -> StoreChannel:
    # Times of a forecast count from its start, whose date the dataset keeps.
    if not dated:
        raise ConfigError(f"forcings: {name} needs dates, but the data have times without dates")
    if grid.kind != "latlon":
        raise ConfigError(f"forcings: {name} needs longitudes, but the grid is {grid.kind}")
    return StoreChannel(variable=forcing_variable(name), source="")


def _place(name: PlaceName, grid: Grid) -> StoreChannel:
    if grid.kind != "latlon":
        raise ConfigError(f"places: {name} needs latitudes and longitudes, but the grid is {grid.kind}")
    return StoreChannel(variable=place_variable(name), source="")


def _check_unique(variables: list[Variable]) -> None:
    found = keys(variables)
    if doubled := [key for key in found if found.count(key) > 1]:
        raise ConfigError(
            f"variables: {doubled[0]!r} would be stored twice; name it once, or rename one of the two"
        )


def _time_axis(ds: xr.Dataset) -> tuple[NDArray[Any], str]:
    """The evenly spaced times and their units: dates to the second, or an even number of months apart; or numbers."""
    axis = ds["time"].values
    units = ds["time"].attrs.get("units", "1")
    if dates.is_dated(axis):
        axis, units = _whole_seconds(ds.attrs["dataset"], axis), "s"
        if convention.uneven_frames(axis).size and (step := dates.even_months(axis)):
            every = "month" if step == 1 else f"{step} months"
            text = f"{ds.attrs['dataset']}: dates are uneven in seconds; every {every}, counted in months"
            assume("times", "time", text)
            return axis, "months"
    if (odd := convention.uneven_frames(axis)).size:
        counted = dates.seconds(axis) if axis.dtype == object else axis
        frame, steps = int(odd[0]), np.diff(counted).astype(np.float64)
        raise DataError(
            f"{ds.attrs['dataset']}: times are not evenly spaced: frames 0 and 1 are {steps[0]:g} {units} "
            f"apart, frames {frame} and {frame + 1} {steps[frame]:g}, at {axis[frame]}; see subset.time"
        )
    return axis, units


def _whole_seconds(dataset: str, axis: NDArray[Any]) -> NDArray[Any]:
    if axis.dtype.kind == "M":
        seconds = axis.astype("datetime64[s]")
    else:
        seconds = dates.from_seconds(np.floor(dates.seconds(axis)), axis)
    if (seconds != axis).any():
        frame = int(np.argmax(seconds != axis))
        raise DataError(f"{dataset}: time {frame} is {axis[frame]}; stores keep dates in whole seconds")
    return seconds


def _params(ds: xr.Dataset) -> dict[str, NDArray[np.float64]]:
    num = ds.sizes["trajectory"]
    params = {
        name: np.broadcast_to(ds[name].values.astype(np.float64), num).copy()
        for name in convention.in_role(ds, "scalar")
    }
    for name, values in params.items():
        if np.isinf(values).any():
            where = int(np.argmax(np.isinf(values)))
            raise DataError(f"{ds.attrs['dataset']}: scalar {name} is infinite in trajectory {where}")
    return params
