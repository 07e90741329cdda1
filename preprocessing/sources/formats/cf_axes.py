"""Axes of CF files: which dimension is the time, the level, the latitude, and the coordinates along them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats.cf_time import require_dates, rounded_dates
from pelagos.preprocessing.sources.formats.cf_variable import PackedVariable, require_written
from pelagos.preprocessing.sources.formats.valid_time import is_lead_time

CFAxis = Literal["trajectory", "time", "level", "y", "x"]

# Compared in lower case: CF 1.11, section 4.1, allows degree_N and degreesN too, and files write Latitude.
LATITUDE = ("latitude", "degrees_north", "degree_north", "degrees_n", "degree_n", "degreesn", "degreen")
LONGITUDE = ("longitude", "degrees_east", "degree_east", "degrees_e", "degree_e", "degreese", "degreee")

# What `axis`, `standard_name` and `units` may say (CF conventions 1.11, chapter 4), in lower case.
_SIGNS: dict[CFAxis, tuple[str, ...]] = {
    "trajectory": (),
    "time": ("t", "time", "forecast_reference_time"),
    "level": ("z", "air_pressure", "height", "altitude", "depth", "model_level_number", "hpa", "millibars"),
    "y": ("y", *LATITUDE, "projection_y_coordinate", "grid_latitude"),
    "x": ("x", *LONGITUDE, "projection_x_coordinate", "grid_longitude"),
}
AXIS_NAMES: dict[CFAxis, tuple[str, ...]] = {
    "trajectory": (),
    "time": ("time", "valid_time"),
    "level": ("level", "lev", "plev", "pressure", "pressure_level", "isobaricinhpa", "hybrid"),
    "y": ("y", "lat", "lats", "latitude", "latitudes"),
    "x": ("x", "lon", "lons", "long", "longitude", "longitudes"),
}
"""Common names of dimensions in lower case, for files whose attributes do not say."""


_FLAT_MAPS = frozenset(
    (
        "albers_conical_equal_area",
        "azimuthal_equidistant",
        "geostationary",
        "lambert_azimuthal_equal_area",
        "lambert_conformal_conic",
        "oblique_mercator",
        "orthographic",
        "polar_stereographic",
        "stereographic",
        "transverse_mercator",
        "vertical_perspective",
    )
)
"""Grid mappings of CF 1.11, appendix F, none of whose axes closes around the Earth, as that of Mercator may."""


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


# What else dimensions are called, by which a question can propose the answer; too vague to be taken for it.
_LIKELY: dict[CFAxis, frozenset[str]] = {
    "trajectory": _words(
        "trajectory traj trajectories sample samples batch case cases seed seeds run runs sim sims simulation",
        "number member members ensemble ensemble_member ens realization realisation",
    ),
    "time": _words("t times nt timestep time_step frame date dates month year day hour"),
    "level": _words("z levels height altitude depth sigma nz"),
}


def find_axes(path: Path | Url, ds: xr.Dataset, given: Mapping[CFAxis, str]) -> dict[CFAxis, str]:
    """The file's dimensions by axis; `given` are those that the user names.

    Raises:
        DataError: if two dimensions could be the same axis, or there is none for y or x.
    """
    found: dict[CFAxis, str] = {axis: dim for axis, dim in given.items() if dim in ds.dims}
    for dim in (str(dim) for dim in ds.dims if dim not in found.values()):
        axis = recognise(dim, ds.variables.get(dim))
        if axis is None or axis in given:
            continue
        if axis in found:
            raise DataError(
                f"{path}: is {found[axis]} or {dim} its {axis}? Set axes: {{{axis}: {dim}}} or the other one"
            )
        found[axis] = dim
    # Of a forecast, the dimension of dates counts its starts, and lead times are the time of each trajectory. A single
    # lead time is no axis: its fields are a series over the dates that they are valid at.
    lead = next(
        (dim for dim in map(str, ds.dims) if is_lead_time(ds, dim) and dim not in found.values()), None
    )
    if lead and "time" not in found and scalar_time(ds) and ds.sizes[lead] > 1:
        found["time"] = lead
    elif lead and "time" in found and "trajectory" not in found and ds.sizes[lead] > 1:
        found = {**found, "trajectory": found["time"], "time": lead}
    if absent := [axis for axis in ("y", "x") if axis not in found]:
        dims = ", ".join(map(str, ds.dims)) or "none"
        raise DataError(
            f"{path}: which dimension is {' and which '.join(absent)}? It has {dims};"
            f" set axes, as in axes: {{{absent[0]}: NAME}}"
        )
    return found


def ask_about_members(path: Path | Url, ds: xr.Dataset, axes: Mapping[CFAxis, str]) -> None:
    """Ask where the user names members of an ensemble, or samples, as levels or times."""
    axis: CFAxis
    for axis, become in (("level", "levels, each a channel"), ("time", "times that follow one another")):
        dim = axes.get(axis)
        if dim is None or ds.sizes[dim] < 2 or not _words_of(ds, dim) & _LIKELY["trajectory"]:
            continue
        ask(
            "levels",
            dim,
            f"{path}: axes: {{{axis}: {dim}}} makes its {ds.sizes[dim]} members or samples {become}",
            f"source.axes: {{trajectory: {dim}}}, which makes each a trajectory, or accept: [levels]",
        )


def recognise(dim: str, coordinate: xr.Variable | None) -> CFAxis | None:
    """The axis that a coordinate is along by its attributes, or by its name."""
    if coordinate is not None:
        if dates.is_dated(coordinate.values):
            return "time"
        says = [str(coordinate.attrs.get(name, "")).casefold() for name in ("axis", "standard_name", "units")]
        for word in says:
            for axis, signs in _SIGNS.items():
                if word in signs:
                    return axis
    return next((axis for axis, names in AXIS_NAMES.items() if dim.casefold() in names), None)


def propose_axes(ds: xr.Dataset, dims: Sequence[str], taken: Collection[CFAxis]) -> dict[CFAxis, str]:
    """The axes that dimensions of unknown meaning may be, by their names and by what is still free."""
    proposed: dict[CFAxis, str] = {}
    for dim in dims:
        likely: list[CFAxis] = [axis for axis, names in _LIKELY.items() if _words_of(ds, dim) & names]
        # A member is never a level: where its axis is taken, nothing else is proposed.
        free = [one for one in likely or ("time", "level", "trajectory") if one not in {*taken, *proposed}]
        if free:
            proposed[free[0]] = dim
    return proposed


def _words_of(ds: xr.Dataset, dim: str) -> set[str]:
    attrs = ds.variables[dim].attrs if dim in ds.variables else {}
    return {dim.casefold(), str(attrs.get("standard_name", "")).casefold()}


def forecast_labels(starts: NDArray[Any]) -> NDArray[Any]:
    """Names of trajectories: the dates at which forecasts start, to the minute; else the file's numbers or names."""
    if dates.is_dated(starts):
        return np.array([dates.text_of(start)[:-3] for start in starts])
    if starts.dtype.kind != "f":
        return starts
    whole = np.isfinite(starts).all() and (starts == starts.round()).all()
    return starts.astype(np.int64) if whole else np.array([f"{one:g}" for one in starts])


def scalar_time(ds: xr.Dataset) -> str | None:
    """The scalar coordinate that holds the single time of a file, if any."""
    scalar = [str(name) for name in ds.coords if not ds[name].dims and dates.is_dated(ds[name].values)]
    # A file may also hold the time of its analysis: the standard name `time` is that of validity.
    valid = [name for name in scalar if ds[name].attrs.get("standard_name") == "time"]
    return next(iter([*valid, *scalar]), None)


def read_coordinate(path: Path | Url, name: str, ds: xr.Dataset, axis: CFAxis) -> xr.Variable:
    """The coordinate along an axis, unpacked, with its attributes.

    Raises:
        DataError: there is none, or no dates can be made of what counts from a start.
    """
    if name not in ds.variables:
        if axis == "trajectory":  # samples are counted
            return xr.Variable((axis,), np.arange(ds.sizes[name], dtype=np.float64))
        raise DataError(f"{path}: its dimension {name} has no coordinate; {axis} must have one")
    stored = ds.variables[name]
    require_written(path, name)
    if axis != "trajectory" and stored.dtype.kind in "SUOT" and not dates.is_dated(stored.values):
        if axis == "time":
            require_dates(path, name, stored)
        else:
            raise DataError(
                f"{path}: {name} holds text ('{np.ravel(stored.values)[0]}'), of which no {axis} can be made; numbers"
                " would be right"
            )
    if dates.is_dated(stored.values):
        values = rounded_dates(path, name, stored)
        require_ordered(path, name, axis, values)
        if (calendar := dates.calendar_of(values)) != dates.STANDARD and axis == "time":
            assume("calendar", name, f"{path}: {name} is in the calendar {calendar}, and so is the store")
        return xr.Variable((axis,), values)
    if axis == "trajectory" and stored.dtype.kind in "SUOT":
        named = [one.decode() if isinstance(one, bytes) else str(one) for one in np.atleast_1d(stored.values)]
        say_repeated(path, name, named)
        return xr.Variable((axis,), np.array(named))
    if axis == "time":
        require_dates(path, name, stored)
    values = np.atleast_1d(stored.values)
    values = PackedVariable.of(path, name, stored).unpack(values).astype(np.float64)
    # Names say what attributes leave out: many a `lat` has none.
    said = name
    if _is_name_of_angle(name, axis):
        said = {"y": "latitude", "x": "longitude"}[axis]
    elif axis in ("y", "x") and _is_on_map(ds):
        said = f"projection_{axis}_coordinate"
    own = {key: str(text) for key, text in stored.attrs.items()}
    require_ordered(path, name, axis, values)
    if axis == "trajectory":
        say_repeated(path, name, [f"{one:g}" for one in values.tolist()])
    if axis == "time":
        values = convention.even_times(values, stored.dtype)
    return xr.Variable((axis,), values, {"standard_name": said} | own)


def say_repeated(path: Path | Url, name: str, labels: Sequence[str]) -> None:
    """Ask about members of one name: two copies of a member would train twice, or train and test."""
    if twice := [one for one in dict.fromkeys(labels) if labels.count(one) > 1]:
        text = f"{path}: {name} has {', '.join(twice[:5])} more than once; taken as different members"
        ask("levels", name, text, "take each once by subset.trajectories, or accept: [levels]")


def require_ordered(path: Path | Url, name: str, axis: CFAxis, values: NDArray[Any]) -> None:
    """Check a coordinate of a file, while its name is known.

    Raises:
        DataError: an entry is missing; rows do not go one way, times not forwards, or a column stands twice in a row.
    """
    if not len(values):
        raise DataError(f"{path}: {name} has no entries, so there are no fields to read")
    missing = (
        np.flatnonzero(~np.isfinite(values)) if values.dtype.kind == "f" else np.flatnonzero(values != values)
    )
    if len(missing) and axis != "trajectory":
        raise DataError(
            f"{path}: {name} is missing (NaN) at entry {missing[0]} of {len(values)}; a value for each {axis} would be"
            " right"
        )
    steps = values[1:] > values[:-1]
    if axis == "time":
        wrong, right = ~steps, "each time once, in increasing order"
    elif axis == "y":
        first = steps[:1]
        wrong, right = (steps != first) | (values[1:] == values[:-1]), "rows that all go up or all go down"
    elif axis == "x":  # longitudes may jump by 360 degrees
        wrong, right = values[1:] == values[:-1], "each column once"
    else:
        return
    if len(where := np.flatnonzero(wrong)):
        i = int(where[0])
        one, two = (
            dates.text_of(v) if dates.is_dated(values) else f"{v:g}" for v in (values[i], values[i + 1])
        )
        what = "does not increase: it goes" if axis == "time" else "goes"
        raise DataError(
            f"{path}: {name} {what} from {one} at entry {i} to {two} at entry {i + 1}; {right} would be right, as"
            f" ds.sortby('{name}').drop_duplicates('{name}') of xarray makes it"
        )


def _is_on_map(ds: xr.Dataset) -> bool:
    """Whether the grid mapping of a file shows a part of the Earth on a plane, round which no axis goes."""
    mapped = {str(one.attrs.get("grid_mapping_name", "")) for one in ds.variables.values()}
    return bool(mapped & _FLAT_MAPS)


def _is_name_of_angle(name: str, axis: CFAxis) -> bool:
    return axis in ("y", "x") and name.casefold() in AXIS_NAMES[axis][1:]


def is_angle(coordinate: xr.Variable, words: tuple[str, ...]) -> bool:
    """Whether a coordinate says by its standard name or units that it is `LATITUDE` or `LONGITUDE`."""
    return any(str(coordinate.attrs.get(name, "")).casefold() in words for name in ("standard_name", "units"))


def is_projected(coordinate: xr.Variable) -> bool:
    """Whether a coordinate says that it lies on a projected or rotated grid."""
    named = str(coordinate.attrs.get("standard_name", "")).casefold()
    return named.startswith(("projection_", "grid_l"))
