"""The one xarray convention in which every source presents its archive.

Fields that depend on time have dims (trajectory, time, [level,] y, x), static fields ([trajectory,] [level,] y, x),
scalar parameters ([trajectory]). Each variable has the attributes `units` and `role`; the dataset has its identifier,
its format, the kind of its grid and what lies beyond each edge. Missing values are NaN. The third axis of 3-D fields
is `level` (see `plane_coordinate`). Where trajectories end at different times, or lack frames, the coordinate
`present` (trajectory, time) says which frames there are. Where there are several files, the coordinate `file`, along
trajectories or times, says which of them each is from. A field that lacks frames of others names, by its attribute
`held`, the coordinate (time) that says which it has; a subset must leave no others. Where trajectories are forecasts,
whose times count from their starts, the coordinate `start` (trajectory) has the dates of these.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import BeforeValidator

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.grid import Boundary, Grid, GridKind, Sides
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.sources.cells import CELLS, cells_of
from pelagos.preprocessing.variables import known_variable

FieldRole = Literal["prognostic", "static", "forcing", "diagnostic", "scalar"]

HELD = "held"
"""In the encoding of a variable: at which times it has frames, where it lacks some that others have."""
STEP_RANGES = "step_ranges"
"""Attribute of sums over a forecast's steps: "start" where all are since its start, or hours that each is over."""
FILES = "files"
"""In the encoding of a variable: the dimension along which its files follow one another, and the file of each place."""

TIME_DIMS = ("trajectory", "time", "y", "x")
LEVEL_DIMS = ("trajectory", "time", "level", "y", "x")
_DIMS = {
    "scalar": ((), ("trajectory",)),
    "static": (
        ("y", "x"),
        ("trajectory", "y", "x"),
        ("level", "y", "x"),
        ("trajectory", "level", "y", "x"),
    ),
    "prognostic": (TIME_DIMS, LEVEL_DIMS),
    "forcing": (TIME_DIMS, LEVEL_DIMS),
    "diagnostic": (TIME_DIMS, LEVEL_DIMS),
}


class Boundaries(Config):
    """What lies beyond the edges of each axis, low side first.

    In YAML one word may stand for all sides (`wall`), or for both sides of an axis (`{y: wall, x: periodic}`). `level`
    is the third axis of 3-D fields.

    Attributes:
        y: of the first and the last row.
        x: of the first and the last column.
        level: of the first and the last plane.
    """

    y: Sides
    x: Sides
    level: Sides | None = None

    @property
    def level_sides(self) -> Sides | None:
        """The sides of the third axis, if they are known: one word for all four others stands for them as well."""
        alike = len({*self.y, *self.x}) == 1
        return self.level or (self.x if alike else None)


def _spread(value: object) -> object:
    if isinstance(value, str):
        value = {"y": value, "x": value}
    if isinstance(value, Mapping):
        return {axis: (sides, sides) if isinstance(sides, str) else sides for axis, sides in value.items()}
    return value


BoundaryOption = Annotated[Boundaries, BeforeValidator(_spread)]


def on_all_sides(kind: Boundary) -> Boundaries:
    """The same kind of boundary on all four sides."""
    return Boundaries(y=(kind, kind), x=(kind, kind))


def plane_coordinate(name: str, values: NDArray[np.float64], sides: Sides, units: str = "1") -> xr.Variable:
    """The coordinate `level` of 3-D fields, whose third axis is `name`.

    Its attributes tell it from heights and pressures, and `boundary` what lies beyond its first and last plane.
    """
    return xr.Variable(
        "level",
        values,
        {"units": units, "long_name": f"coordinate along {name}", "boundary": ",".join(sides)},
    )


def attrs(name: str, role: FieldRole, **more: str) -> dict[str, str]:
    """Attributes of the variable `name`: its role, with units, group and long name from the table of variables.

    >>> attrs("velocity_x", "prognostic")["group"]
    'velocity'
    """
    variable = known_variable(name)
    table = {"units": variable.units, "group": variable.group, "long_name": variable.long_name}
    given = {key: value for key, value in more.items() if value}
    return {key: value for key, value in (table | {"role": role} | given).items() if value}


def assemble(
    variables: Mapping[str, xr.Variable],
    *,
    grid: Grid,
    time: NDArray[Any],
    dataset: str,
    source_format: str,
    sources: Sequence[Path | Url],
    num_trajectories: int,
    time_units: str = "1",
    level: xr.Variable | None = None,
    present: NDArray[np.bool_] | None = None,
    **documentation: str,
) -> xr.Dataset:
    """A dataset in the convention, checked; `documentation` (license, references, ...) that is empty is left out."""
    latlon = grid.kind == "latlon"
    coords: dict[str, Any] = {
        "trajectory": np.arange(num_trajectories, dtype=np.int64),
        "time": ("time", time, {} if dates.is_dated(time) else {"units": time_units}),
        "y": ("y", grid.y, {"units": "degrees_north" if latlon else grid.units}),
        "x": ("x", grid.x, {"units": "degrees_east" if latlon else grid.units}),
    }
    if level is not None:
        coords["level"] = level
    # Without the coordinate all frames are there, as in most archives.
    if present is not None and not present.all():
        coords["present"] = (("trajectory", "time"), present)
    coords |= _file_of_each(variables, num_trajectories, len(time))
    for variable in variables.values():
        if HELD in variable.encoding:
            coords[variable.attrs[HELD]] = ("time", variable.encoding[HELD])
    facts = {
        "dataset": dataset,
        "source_format": source_format,
        **grid.to_attrs(),
        "sources": json.dumps([str(path) for path in sources]),
    }
    ds = xr.Dataset(dict(variables), coords, facts | {k: text for k, text in documentation.items() if text})
    check(ds)
    return ds


def _file_of_each(
    variables: Mapping[str, xr.Variable], num_trajectories: int, num_times: int
) -> dict[str, tuple[str, NDArray[Any]]]:
    """The coordinate `file`, where there are several."""
    lengths = {"trajectory": num_trajectories, "time": num_times}
    for variable in variables.values():
        along, files = variable.encoding.get(FILES, ("", ()))
        if len(files) == lengths.get(along) and len(set(files)) > 1:
            return {"file": (along, files)}
    return {}


def require_equal(name: str, one: tuple[object, NDArray[Any]], two: tuple[object, NDArray[Any]]) -> None:
    """Raise DataError with the first difference unless two places hold the same coordinate."""
    (here, first), (there, second) = one, two
    if object in (first.dtype, second.dtype):
        dates.require_one_calendar(here, first, there, second)
    if first.shape != second.shape:
        raise DataError(f"{here} and {there} differ in {name}: {len(first)} and {len(second)} points")
    if len(where := np.flatnonzero(_differ(first, second))):
        i = int(where[0])
        raise DataError(f"{here} and {there} differ in {name}: point {i} is {first[i]} and {second[i]}")


def _differ(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Where coordinates differ by more than the rounding of single precision, or a thousandth of their spacing."""
    if first.dtype.kind != "f" or len(first) < 2:
        return np.asarray(first != second)
    # Copies of one grid in float32 and float64 are the same grid; neighbouring points must never be.
    allowed = min(1e-6 * np.abs(first).max(), 1e-3 * np.abs(np.diff(first)).min())
    return np.asarray(~(np.abs(first - second) <= allowed))


def uneven_frames(times: NDArray[Any]) -> NDArray[np.int64]:
    """The frames after which the step in time differs from the first step by more than a thousandth of it."""
    steps = np.diff(dates.seconds(times) if times.dtype == object else times).astype(np.float64)
    return np.flatnonzero(np.abs(steps - steps[:1]) > 1e-3 * np.abs(steps[:1]))


def even_times(times: NDArray[np.float64], stored: np.dtype[Any]) -> NDArray[np.float64]:
    """Times put back on an even axis if the rounding of the type they are stored in is all that moved them off it.

    In single precision 10000 + 0.01 k has steps between 0.0098 and 0.0107: each time is rounded by up to half of
    0.00098, and so are the ends of the axis. Rounding by more than a quarter of a step could hide a real difference.

    >>> even_times(np.array([1e4, 1e4 + 0.01, 1e4 + 0.02], np.float32).astype(float), np.dtype(np.float32)).tolist()
    [10000.0, 10000.009765625, 10000.01953125]
    """
    if not len(uneven_frames(times)):
        return times
    # The ends are kept: what rounding did to them is within the error allowed in between.
    even, step = np.linspace(times[0], times[-1], len(times), retstep=True)
    error = rounding(times, stored)
    return even if error <= abs(step) / 4 and np.all(np.abs(times - even) <= error) else times


def rounding(times: NDArray[np.float64], stored: np.dtype[Any]) -> float:
    """The distance of the largest time to its neighbour in the type the times are stored in."""
    return float(np.spacing(np.abs(times).max().astype(stored))) if stored.kind == "f" else 0.0


def select(ds: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The dataset with its scalars and the fields named, or all fields if none is.

    Raises:
        DataError: if a name is not a field of `ds`.
    """
    fields = [str(name) for name in ds.data_vars if ds[name].attrs["role"] != "scalar"]
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise DataError(
            f"variables: {ds.attrs['dataset']} has no {', '.join(unknown)}; it has {', '.join(fields)}"
        )
    return ds.drop_vars([name for name in fields if names and name not in names])


def grid_of(ds: xr.Dataset) -> Grid:
    """The grid that a dataset's coordinates and attributes describe."""
    sides = {axis: tuple(str(ds.attrs[f"boundary_{axis}"]).split(",")) for axis in ("y", "x")}
    for axis, found in sides.items():
        if len(found) != 2 or not set(found) <= set(get_args(Boundary)):
            raise DataError(
                f"attribute boundary_{axis} is '{ds.attrs[f'boundary_{axis}']}'; "
                f"'low,high' of {', '.join(get_args(Boundary))} would be right"
            )
    if ds.attrs["grid"] not in get_args(GridKind):
        raise DataError(f"attribute grid is '{ds.attrs['grid']}'; it must be cartesian or latlon")
    return Grid(
        kind=ds.attrs["grid"],
        y=ds["y"].values,
        x=ds["x"].values,
        boundary_y=sides["y"],  # type: ignore[arg-type]  # compared with Boundary's words above
        boundary_x=sides["x"],  # type: ignore[arg-type]
        units=ds["x"].attrs.get("units", "1"),
    )


def check(ds: xr.Dataset) -> None:
    """Raise DataError, naming what is wrong, unless `ds` is in the convention; reads no field."""
    for name in ("dataset", "source_format", "grid", "boundary_y", "boundary_x", "sources"):
        if not isinstance(ds.attrs.get(name), str) or not ds.attrs[name]:
            raise DataError(f"the dataset's attribute '{name}' is missing; it must be a text")
    for name in ("trajectory", "time", "y", "x"):
        if name not in ds.coords or ds[name].dims != (name,):
            raise DataError(f"{ds.attrs['dataset']}: no one-dimensional coordinate '{name}'")
        if not ds.sizes[name]:
            raise DataError(f"{ds.attrs['dataset']}: {name} has no entries, so there are no values to read")
    for key, variable in ds.data_vars.items():
        _check_variable(f"{ds.attrs['dataset']}: variable {key}", variable)
        if "level" in variable.dims and "level" not in ds.coords:
            raise DataError(
                f"{ds.attrs['dataset']}: variable {key} has levels, but no coordinate 'level' says which"
            )
    if not any("time" in variable.dims for variable in ds.data_vars.values()):
        raise DataError(f"{ds.attrs['dataset']}: no variable depends on time, so there is nothing to predict")
    _check_coordinates(ds)
    if ds.attrs["grid"] == CELLS:
        cells_of(ds)
    else:
        grid_of(ds)


def _check_variable(label: str, variable: xr.DataArray) -> None:
    role = variable.attrs.get("role")
    if role not in _DIMS:
        raise DataError(f"{label} has role {role!r}; it must be one of {', '.join(_DIMS)}")
    if variable.dims not in _DIMS[role]:
        allowed = " or ".join(str(dims) for dims in _DIMS[role])
        raise DataError(f"{label} of role {role} has dims {variable.dims}; {allowed} would be right")
    if not isinstance(variable.attrs.get("units"), str):
        raise DataError(f"{label} has no units; '1' stands for none")
    if variable.dtype.kind == "c":
        raise DataError(
            f"{label} is {variable.dtype}; stores keep real numbers: its real and its imaginary part as two fields"
            " would be right"
        )
    if variable.dtype.kind != "f":
        raise DataError(f"{label} is {variable.dtype}; it must be floating-point")


def _check_coordinates(ds: xr.Dataset) -> None:
    label = ds.attrs["dataset"]
    if "present" in ds.coords and (ds["present"].dims != TIME_DIMS[:2] or ds["present"].dtype != np.bool_):
        raise DataError(
            f"{label}: present is {ds['present'].dtype} over {ds['present'].dims}; booleans over"
            " (trajectory, time) would be right"
        )
    if "present" in ds.coords and not ds["present"].any():
        raise DataError(f"{label}: no trajectory has a frame")
    for name in {"y", "x", "level"} & set(ds.coords):
        if ds[name].dtype != np.float64:
            raise DataError(f"{label}: coordinate {name} is {ds[name].dtype}; it must be float64")
        if len(unknown := np.flatnonzero(~np.isfinite(ds[name].values))):
            i = int(unknown[0])
            raise DataError(f"{label}: coordinate {name} is {ds[name].values[i]} at point {i}")
    if ds["trajectory"].dtype != np.int64 and ds["trajectory"].dtype.kind not in "UOT":
        raise DataError(
            f"{label}: trajectories are numbered in {ds['trajectory'].dtype}; int64 or text would be right"
        )
    time = ds["time"].values
    if time.dtype != np.float64 and not dates.is_dated(time):
        raise DataError(
            f"{label}: time is {time.dtype}; float64 or datetime64, or cftime in other calendars, would be right"
        )
    # Negated, so that NaN and NaT, which compare as False, are found too.
    late = np.flatnonzero(~(time[1:] > time[:-1]))
    if len(late):
        i = int(late[0])
        raise DataError(
            f"{label}: time does not increase: frame {i} is at {time[i]}, frame {i + 1} at {time[i + 1]}"
        )


def in_role(ds: xr.Dataset, *roles: FieldRole) -> list[str]:
    """Names of the variables that have one of the roles, in order."""
    return [str(name) for name, variable in ds.data_vars.items() if variable.attrs["role"] in roles]
