"""CF: weather and climate archives in netCDF-3, netCDF-4, Zarr and GRIB.

Files may hold one variable or several, all times or some. Axes are recognised by what the CF
conventions (cfconventions.org) prescribe, `axis`, `standard_name` and units, then by common names.
Grids are of latitudes and longitudes, or projected with x and y. Values are unpacked, fill
values become NaN; units and the orientation of latitudes stay as in the files. What was observed or
analysed is one trajectory over dates; of forecasts each start is a trajectory over lead times.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.location import Url
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays import grib_file, zarr_array
from pelagos.preprocessing.sources.arrays.lazy_array import Index, Stored, variable
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.files import Files, missing
from pelagos.preprocessing.sources.finding import Finding, Glance

Axis = Literal["trajectory", "time", "level", "y", "x"]

_LATITUDE = ("latitude", "degrees_north", "degree_north")
_LONGITUDE = ("longitude", "degrees_east", "degree_east")
_SIGNS: dict[Axis, tuple[str, ...]] = {
    "trajectory": (),
    "time": ("T", "time", "forecast_reference_time"),
    "level": ("Z", "air_pressure", "height", "altitude", "depth", "model_level_number", "hPa", "millibars"),
    "y": ("Y", *_LATITUDE, "projection_y_coordinate", "grid_latitude"),
    "x": ("X", *_LONGITUDE, "projection_x_coordinate", "grid_longitude"),
}
_NAMES: dict[Axis, tuple[str, ...]] = {
    "trajectory": (),
    "time": ("time", "valid_time"),
    "level": ("level", "lev", "plev", "pressure", "pressure_level", "isobaricInhPa", "hybrid"),
    "y": ("y", "lat", "latitude"),
    "x": ("x", "lon", "longitude"),
}

_LEADS = ("prediction_timedelta", "step", "lead_time", "forecast_period")
_PER_HOUR = {
    "hours": 1,
    "hour": 1,
    "h": 1,
    "minutes": 60,
    "seconds": 3600,
    "days": 1 / 24,
    "nanoseconds": 3.6e12,
}


@dataclass(frozen=True)
class _Packed(Stored):
    """One variable of one file: opened by path at each access, unpacked, NaN where it is missing."""

    fill: tuple[float, ...]
    scale: float
    offset: float

    @classmethod
    def of(cls, path: Path | Url, key: str, stored: xr.Variable) -> "_Packed":
        """The reader of an undecoded variable."""
        attrs = stored.attrs
        if str(attrs.get("_Unsigned", "false")).lower() == "true":
            raise DataError(f"{path}: {key} is packed in unsigned integers (_Unsigned), which are not read")
        scale, offset = (
            float(attrs.get(name, one)) for name, one in (("scale_factor", 1), ("add_offset", 0))
        )
        kind, size = stored.dtype.kind, stored.dtype.itemsize
        wide = (scale, offset) != (1, 0) or (kind in "iu" and size > 2)
        dtype = np.dtype(
            np.float64 if wide else stored.dtype.newbyteorder("=") if kind == "f" else np.float32
        )
        marks = (np.ravel(attrs.get(name, ())) for name in ("_FillValue", "missing_value"))
        fill = tuple(float(one) for some in marks if some.dtype.kind in "iuf" for one in some if one == one)
        return cls(path, key, stored.shape, dtype, fill, scale, offset)

    def read(self, index: Index) -> NDArray[Any]:
        if _is_group(self.path):
            return self.unpack(zarr_array.ZarrArray(self.path, self.key, self.shape, self.dtype).read(index))
        with _open(self.path) as ds:
            try:
                return self.unpack(ds.variables[self.key][index].values)
            except OSError as error:
                raise DamagedFileError(f"{self.name} cannot be read ({error})") from error

    def unpack(self, raw: NDArray[Any]) -> NDArray[Any]:
        """Values of packed ones; NaN where they are marked as missing."""
        values = raw.astype(self.dtype)
        if (self.scale, self.offset) != (1, 0):
            values = values * self.scale + self.offset
        if self.fill:
            values[np.isin(raw, np.array(self.fill).astype(raw.dtype))] = np.nan
        return values


@dataclass(frozen=True, eq=False)
class _Stored:
    """A field of one file; `axes` are its axes in the convention's words, None for one of length 1."""

    part: _Packed
    axes: tuple[Axis | None, ...]
    attrs: Mapping[str, Any]
    file: "_Contents"

    @property
    def dated(self) -> bool:
        """Whether it depends on time, be it for the single time of its file."""
        return "time" in self.axes or self.file.snapshot


@dataclass(frozen=True, eq=False)
class _Contents:
    """What one file holds; a `snapshot` has one time, and no axis for it.

    Attributes:
        fields: those wanted, by their new names.
        offered: new names of all fields.
        skipped: own names of what is no field.
    """

    path: Path | Url
    coordinates: dict[Axis, xr.Variable]
    snapshot: bool
    attrs: Mapping[str, Any]
    fields: dict[str, _Stored] = field(default_factory=dict)
    offered: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class Gridded(Files):
    """What all sources of gridded weather share; files are merged on equal coordinates, or joined in time.

    Attributes:
        kind: of the source.
        variables: fields to read, by their new names; all fields of the files if empty.
        rename: new names by the files' own names; goes before standard names.
        standard_names: whether a variable is called by its standard name where it has one.
        axes: the files' names of `trajectory`, `time`, `level`, `y` or `x` where they cannot be recognised.
        latitude: order of the rows; as in the files by default.
        boundary: beyond the edges; replaces what the grid says.
    """

    kind: str
    variables: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    standard_names: bool = True
    axes: dict[Axis, str] = Field(default_factory=dict)
    latitude: Literal["keep", "ascending", "descending"] = "keep"
    boundary: BoundaryOption | None = None

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates, no field.

        A static field is read from the first file that has it.

        Raises:
            DataError: if axes cannot be recognised, files differ in coordinates or overlap in
                time, or names are ambiguous.
        """
        files = [_contents(path, self) for path in self.places()]
        fields = self._fields(files)
        coordinates = _merged(fields)
        grid = self._grid(coordinates["y"], coordinates["x"])
        sizes = {"trajectory": 1} | {axis: len(values) for axis, values in coordinates.items()}
        starts = coordinates.get("trajectory")
        ds = convention.assemble(
            {name: _variable(name, stored, sizes) for name, stored in fields.items()},
            grid=grid,
            time=coordinates["time"].values,
            time_units=str(coordinates["time"].attrs.get("units", "1")),
            level=coordinates.get("level"),
            dataset=self.identifier(),
            source_format=self.kind,
            sources=self.places(),
            num_trajectories=sizes["trajectory"],
            license=self.license or _documented(files[0], "license", "licence"),
            references=self.references or _documented(files[0], "references", "reference"),
            not_read=_skipped(files),
        )
        if starts is not None:
            ds = ds.assign_coords(trajectory=_labels(starts.values))
        return self._ordered(ds)

    def _fields(self, files: Sequence[_Contents]) -> dict[str, list[_Stored]]:
        """The pieces of each wanted field, in the order wanted."""
        found: dict[str, list[_Stored]] = {}
        for file in files:
            for name, stored in file.fields.items():
                found.setdefault(name, []).append(stored)
        absent = [name for name in self.variables if name not in found]
        if absent or not found:
            offered = dict.fromkeys(name for file in files for name in file.offered)
            raise DataError(
                f"{files[0].path}{' and its like' * (len(files) > 1)}: no {', '.join(absent) or 'field'};"
                f" fields: {', '.join(offered) or 'none'}; not on the grid: {_skipped(files) or 'none'}"
            )
        return {name: _joined(name, found[name]) for name in self.variables or found}

    def _grid(self, y: xr.Variable, x: xr.Variable) -> Grid:
        rows, columns = (np.asarray(axis.values, np.float64) for axis in (y, x))
        latlon = _is_angle(y, _LATITUDE) and _is_angle(x, _LONGITUDE)
        sides: tuple[Sides, Sides] = ("open", "open"), ("open", "open")
        if self.boundary:
            sides = self.boundary.y, self.boundary.x
        elif latlon:
            sides = beyond_edges(rows, columns)
        units = "degrees" if latlon else str(x.attrs.get("units", "1"))
        return Grid("latlon" if latlon else "cartesian", rows, columns, *sides, units)

    def _ordered(self, ds: xr.Dataset) -> xr.Dataset:
        if self.latitude == "keep":
            return ds
        if ds.attrs["grid"] != "latlon":
            raise ConfigError("latitude: the rows of a projected grid are no latitudes; leave this at keep")
        ascending = bool(ds.y[-1] > ds.y[0])
        if ascending == (self.latitude == "ascending"):
            return ds
        low, high = ds.attrs["boundary_y"].split(",")
        return ds.isel(y=slice(None, None, -1)).assign_attrs(boundary_y=f"{high},{low}")


class CF(Gridded):
    """Reads weather archives in files that follow the CF conventions; see `Gridded` for the options."""

    kind: Literal["cf"] = "cf"

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """netCDF-3 and Zarr, and HDF5 in which netCDF has marked its dimensions."""
        marked = glance.container == "hdf5" and "_NCProperties" in glance.attrs
        if glance.container not in ("netcdf3", "zarr") and not marked:
            return None
        axes = [key for key in glance.shapes if any(key in names for names in _NAMES.values())]
        word = {"hdf5": "netCDF-4", "netcdf3": "netCDF-3", "zarr": "a Zarr group"}[glance.container]
        evidence = f"{word} with {glance.listed(*axes) or 'no coordinates of a common name'}"
        return Finding("cf", "likely" if len(axes) > 2 else "possible", evidence)


@contextmanager
def _open(path: Path | Url) -> Iterator[xr.Dataset]:
    """The file or store as it is stored: nothing unpacked, no dates.

    Raises:
        MissingFileError: if there is none.
        DamagedFileError: if it is truncated or of another format.
        DataError: if it is a store of Pelagos.
    """
    if isinstance(path, Url):
        yield _open_remote(path)
        return
    if not path.exists():
        raise missing(path)
    engine = _engine(path)
    if engine == "cfgrib":
        yield grib_file.opened(path)
        return
    more: dict[str, Any] = {}
    if engine == "zarr":
        zarr_array.open_group(path)  # which says what is wrong with it
        more = {"consolidated": False}
    try:
        ds = xr.open_dataset(path, engine=engine, decode_cf=False, cache=False, **more)
    except PermissionError:
        raise
    except (OSError, EOFError, TypeError, KeyError, IndexError, ValueError, AssertionError) as error:
        raise DamagedFileError(
            f"{path}: cannot be read as {engine} ({error}); fetch or make it again"
        ) from error
    with ds:
        yield ds


def _is_group(path: Path | Url) -> bool:
    return isinstance(path, Url) or path.is_dir()


def _open_remote(url: Url) -> xr.Dataset:
    group = zarr_array.open_group(url)
    if not list(group.array_keys()):
        raise DataError(
            f"{url}: a group of no arrays; where servers do not list, metadata must be consolidated"
        )
    consolidated = group.metadata.consolidated_metadata is not None
    return xr.open_dataset(
        group.store, engine="zarr", decode_cf=False, cache=False, consolidated=consolidated
    )


def _dated(path: Path | Url, ds: xr.Dataset) -> xr.Dataset:
    """The dataset with dates for times, and with the auxiliary coordinates that it names as coordinates."""
    try:
        return xr.decode_cf(ds, mask_and_scale=False, decode_timedelta=False)
    except ValueError as error:
        raise DataError(f"{path}: its times cannot be decoded ({error})") from error


def _engine(path: Path) -> str:
    if path.is_dir():
        return "zarr"
    with path.open("rb") as file:
        magic = file.read(8)
    if magic[:3] == b"CDF":
        return "scipy"
    if magic == b"\x89HDF\r\n\x1a\n":
        return "h5netcdf"
    if magic[:4] == b"GRIB":
        return "cfgrib"
    raise DamagedFileError(f"{path}: neither netCDF nor GRIB nor a Zarr store; fetch or make it again")


def _contents(path: Path | Url, config: Gridded) -> _Contents:
    with _open(path) as stored_ds:
        ds = _dated(path, stored_ds)
        axes = _axes(path, ds, config.axes)
        dims = {dim: axis for axis, dim in axes.items()}
        coordinates = {axis: _coordinate(path, dim, ds, axis) for axis, dim in axes.items()}
        if _is_lead(ds, axes.get("time")):
            coordinates["time"] = _hours(path, coordinates["time"])
        moment = None if "time" in axes else _moment(ds)
        if moment:
            coordinates["time"] = _coordinate(path, moment, ds, "time")
        file = _Contents(path, coordinates, bool(moment), dict(ds.attrs))
        bounds = {variable.attrs.get("bounds") for variable in ds.variables.values()}
        keys = [str(key) for key in ds.variables if key not in ds.dims]
        # A Zarr group lists its arrays as its folder does, which differs between copies.
        for key in sorted(keys) if _is_group(path) else keys:
            stored, name = ds.variables[key], _name(key, ds.variables[key], config)
            if key in bounds or not _on_grid(stored, dims, bool(moment)):
                file.skipped.append(key)
                continue
            file.offered.append(name)
            if name not in config.variables and (config.variables or key in ds.coords):
                continue
            part = _Packed.of(path, key, stored)
            if name in file.fields:
                raise DataError(
                    f"{part.name} and {file.fields[name].part.key} are both called {name}; say rename"
                )
            file.fields[name] = _Stored(part, _axes_of(part, stored, dims), stored.attrs, file)
    return file


def _axes(path: Path | Url, ds: xr.Dataset, given: Mapping[Axis, str]) -> dict[Axis, str]:
    """The file's dimensions by axis.

    Raises:
        DataError: if two dimensions could be the same axis, or there is none for y or x.
    """
    found: dict[Axis, str] = {axis: dim for axis, dim in given.items() if dim in ds.dims}
    for dim in (str(dim) for dim in ds.dims if dim not in found.values()):
        axis = _recognise(dim, ds.variables.get(dim))
        if axis is None or axis in given:
            continue
        if axis in found:
            raise DataError(f"{path}: is {found[axis]} or {dim} its {axis}? Say axes: {{{axis}: {dim}}}")
        found[axis] = dim
    lead = next((str(dim) for dim in ds.dims if _is_lead(ds, str(dim)) and dim not in found.values()), None)
    if lead and "time" in found and "trajectory" not in found:
        found = {**found, "trajectory": found["time"], "time": lead}
    if absent := [axis for axis in ("y", "x") if axis not in found]:
        dims = ", ".join(map(str, ds.dims)) or "none"
        raise DataError(f"{path}: which dimension is {' and which '.join(absent)}? It has {dims}; say axes")
    return found


def _recognise(dim: str, coordinate: xr.Variable | None) -> Axis | None:
    if coordinate is not None:
        if coordinate.dtype.kind == "M":
            return "time"
        says = [coordinate.attrs.get(name) for name in ("axis", "standard_name", "units")]
        for word in says:
            for axis, signs in _SIGNS.items():
                if word in signs:
                    return axis
    return next((axis for axis, names in _NAMES.items() if dim in names), None)


def _is_lead(ds: xr.Dataset, dim: str | None) -> bool:
    """Whether a dimension counts from the start of a forecast."""
    if dim in _LEADS:
        return True
    return dim in ds.variables and ds.variables[dim].attrs.get("standard_name") == "forecast_period"


def _hours(path: Path | Url, leads: xr.Variable) -> xr.Variable:
    unit = str(leads.attrs.get("units", "")).split(" ")[0]
    if unit not in _PER_HOUR:
        raise DataError(f"{path}: lead times are in '{unit}'; {', '.join(_PER_HOUR)} are known")
    return xr.Variable(("time",), leads.values / _PER_HOUR[unit], {"units": "h"})


def _labels(starts: NDArray[Any]) -> NDArray[Any]:
    """Names of trajectories: the dates at which forecasts start, to the minute."""
    if starts.dtype.kind != "M":
        return starts.astype(np.int64)
    return np.datetime_as_string(starts, unit="m")


def _moment(ds: xr.Dataset) -> str | None:
    """The scalar coordinate that holds the single time of a file, if any."""
    scalar = [str(name) for name in ds.coords if not ds[name].dims and ds[name].dtype.kind == "M"]
    valid = [name for name in scalar if ds[name].attrs.get("standard_name") == "time"]
    return next(iter([*valid, *scalar]), None)


def _coordinate(path: Path | Url, name: str, ds: xr.Dataset, axis: Axis) -> xr.Variable:
    if name not in ds.variables:
        raise DataError(f"{path}: its dimension {name} has no coordinate; {axis} must have one")
    stored = ds.variables[name]
    if stored.dtype.kind == "O":
        calendar = stored.encoding.get("calendar") or type(np.ravel(stored.values)[0]).__name__
        raise DataError(
            f"{path}: {name} is in the calendar {calendar}; datetime64 has the standard calendar only"
        )
    values = np.atleast_1d(stored.values)
    if stored.dtype.kind == "M":
        return xr.Variable((axis,), values)
    values = _Packed.of(path, name, stored).unpack(values).astype(np.float64)
    # Names say what attributes leave out: many a `lat` has none.
    said = {"lat": "latitude", "lon": "longitude"}.get(name, name)
    own = {key: str(text) for key, text in stored.attrs.items()}
    if axis == "time":
        values = convention.evened(values, stored.dtype)
    return xr.Variable((axis,), values, {"standard_name": said} | own)


def _name(key: str, stored: xr.Variable, config: Gridded) -> str:
    standard = str(stored.attrs.get("standard_name", ""))
    usable = config.standard_names and re.fullmatch(r"\w+", standard) and standard != "unknown"
    return config.rename.get(key, standard if usable else key)


def _on_grid(stored: xr.Variable, dims: Mapping[str, Axis], dated: bool) -> bool:
    """Whether a variable is read as a field: it has rows and columns, and levels only with time."""
    axes = {dims.get(str(dim)) for dim in stored.dims}
    fixed_levels = "level" in axes and not dated and axes <= {"level", "y", "x"}
    return stored.dtype.kind in "iufb" and {"y", "x"} <= axes and not fixed_levels


def _axes_of(part: _Packed, stored: xr.Variable, dims: Mapping[str, Axis]) -> tuple[Axis | None, ...]:
    for dim, length in zip(stored.dims, stored.shape, strict=True):
        if dim not in dims and length > 1:
            unseen = "level" if "time" in dims.values() else "time"
            raise DataError(
                f"{part.name} has {length} values along {dim}, which is neither time, level, y nor x;"
                f" leave {part.key} out by variables, or say what it is, as in axes: {{{unseen}: {dim}}}"
            )
    return tuple(dims.get(str(dim)) for dim in stored.dims)


def _joined(name: str, found: list[_Stored]) -> list[_Stored]:
    """The pieces of one field in the order of their times."""
    first = found[0]
    for other in found[1:]:
        if (other.part.key, other.axes, other.dated) != (first.part.key, first.axes, first.dated):
            raise DataError(
                f"{first.part.name} {first.axes} and {other.part.name} {other.axes} would both be"
                f" called {name}; tell them apart by rename"
            )
    if not first.dated:
        return found[:1]
    pieces = sorted(found, key=lambda stored: stored.file.coordinates["time"].values[0])
    for one, two in pairwise(pieces):
        end, start = one.file.coordinates["time"].values[-1], two.file.coordinates["time"].values[0]
        if not start > end:
            raise DataError(
                f"{one.part.path} and {two.part.path} overlap: {name} up to {end} and from {start} on"
            )
    return pieces


def _merged(fields: Mapping[str, list[_Stored]]) -> dict[Axis, xr.Variable]:
    """The coordinates of all fields; raises DataError where two files differ."""
    merged: dict[Axis, tuple[Path | Url, xr.Variable]] = {}
    for pieces in fields.values():
        own: list[tuple[Axis, Path | Url, xr.Variable]] = [
            (axis, piece.part.path, piece.file.coordinates[axis])
            for piece in pieces
            for axis in piece.axes
            if axis is not None and axis != "time"
        ]
        if pieces[0].dated:
            times = [piece.file.coordinates["time"] for piece in pieces]
            joined = xr.Variable(("time",), np.concatenate([one.values for one in times]), times[0].attrs)
            own.append(("time", pieces[0].part.path, joined))
        for axis, path, values in own:
            there, first = merged.setdefault(axis, (path, values))
            convention.agree(axis, (there, first.values), (path, values.values))
    if "time" not in merged:
        raise DataError(
            f"{merged['y'][0]} and its like: no field depends on time, so there is nothing to predict"
        )
    return {axis: values for axis, (_, values) in merged.items()}


def _variable(name: str, pieces: Sequence[_Stored], sizes: Mapping[str, int]) -> xr.Variable:
    first = pieces[0]
    dims = convention.LEVEL_DIMS if "level" in first.axes else convention.TIME_DIMS
    kept = ("units", "long_name", "standard_name", "cell_methods")
    own = {key: str(first.attrs.get(key, "")).strip() for key in kept}
    own["units"] = own["units"] or "1"
    attrs = convention.attrs(name, "prognostic" if first.dated else "static", **own)
    layout = [0 if axis is None else axis for axis in first.axes]
    return variable(
        dims if first.dated else ("y", "x"), [one.part for one in pieces], layout, sizes, attrs, "time"
    )


def _is_angle(axis: xr.Variable, words: tuple[str, ...]) -> bool:
    return axis.attrs.get("standard_name") in words or axis.attrs.get("units") in words


def _global(longitudes: NDArray[np.float64]) -> bool:
    """Whether one more column would be the first again."""
    steps = np.diff(longitudes)
    even = len(steps) > 0 and np.allclose(steps, steps.mean(), rtol=1e-3)
    return bool(even and np.isclose(abs(steps.mean()) * len(longitudes), 360, rtol=1e-4))


def beyond_edges(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> tuple[Sides, Sides]:
    """What lies beyond rows of latitudes and columns of longitudes: poles, the first column again, or more."""
    around: Sides = ("periodic", "periodic") if _global(longitudes) else ("open", "open")
    return _poles(latitudes), around


def _poles(latitudes: NDArray[np.float64]) -> Sides:
    """A side is a pole if no further row would fit before it."""
    step = abs(latitudes[-1] - latitudes[0]) / max(len(latitudes) - 1, 1)
    low, high = ("pole" if 90 - abs(edge) < step * (1 - 1e-3) else "open" for edge in latitudes[[0, -1]])
    return low, high  # type: ignore[return-value]  # both are words of Boundary


def _skipped(files: Sequence[_Contents]) -> str:
    return ", ".join(dict.fromkeys(name for file in files for name in file.skipped))


def _documented(file: _Contents, *names: str) -> str:
    return next((str(file.attrs[name]) for name in names if name in file.attrs), "")
