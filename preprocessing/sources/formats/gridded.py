"""Gridded sources: what netCDF, Zarr and GRIB archives of weather and climate share.

Files may hold one variable or several, all times or some. Values are unpacked and fill values become NaN; units
and the order of latitudes stay as in the files. Observations and analyses are one trajectory over dates; each start
of a forecast is a trajectory over lead times.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.grid import Grid, GridKind, Sides
from pelagos.preprocessing.quantities.dates import is_dated
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.grib_file import Choice
from pelagos.preprocessing.sources.cells import CELLS, Cells
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.cf_axes import (
    LATITUDE,
    LONGITUDE,
    CFAxis,
    forecast_labels,
    is_angle,
    is_projected,
)
from pelagos.preprocessing.sources.formats.cf_cells import CellsOption, Horizontal
from pelagos.preprocessing.sources.formats.cf_file import CFField, CFFile, ReadOptions, read_files
from pelagos.preprocessing.sources.formats.cf_join import merged, on_times
from pelagos.preprocessing.sources.formats.field_stack import stacked
from pelagos.preprocessing.sources.formats.longitude_axis import LongitudeAxis
from pelagos.preprocessing.sources.formats.plane_geometry import (
    GEOMETRY,
    GeometryName,
    geometry_fields,
    grid_angle,
    to_earth,
)
from pelagos.preprocessing.sources.formats.valid_time import DateKind

_DEGREES = ("degrees", "degree", "deg")


class GriddedSource(FileSource):
    """Merges files that share their coordinates, and joins those of different times.

    Attributes:
        kind: of the source.
        variables: fields to read, by their new names; all fields of the files if empty.
        rename: new names by the files' own names; takes precedence over standard names.
        standard_names: whether a variable is called by its standard name where it has one.
        axes: the files' names of `trajectory`, `time`, `level`, `y` or `x` where they cannot be recognised.
        select: values along dimensions that are no axes, such as `{number: 0}`; of several versions (`expver: [1, 5]`)
            the first that has a value counts. For GRIB also keys of ecCodes, such as
            `{typeOfLevel: surface, shortName: [2t, 10u]}`.
        dates: what the files' dates are where a lead time stands beside them and nothing says it: `start` of a
            forecast, or `valid` already.
        latitude: order of the rows; as in the files by default.
        grid: whether the axes are latitudes and longitudes, where neither their attributes nor their names say.
        boundary: beyond the edges; replaces what the grid says.
        cells: what cells in one dimension are, where the files give no latitudes and longitudes of them.
        grid_file: another file with the latitudes and longitudes of the cells, such as the grid file of ICON.
        geometry: static fields to add that describe the cells of a projected or rotated grid; all of them by default
            where files give no coordinates along rows and columns, and else none.
        rotate: pairs of components along rows and columns, by their new names, to be turned eastwards and northwards.
    """

    kind: str
    variables: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    standard_names: bool = True
    axes: dict[CFAxis, str] = Field(default_factory=dict)
    select: dict[str, Choice | tuple[Choice, ...]] = Field(default_factory=dict)
    dates: DateKind | None = None
    latitude: Literal["keep", "ascending", "descending"] = "keep"
    grid: GridKind | None = None
    boundary: BoundaryOption | None = None
    cells: CellsOption | None = None
    grid_file: str = ""
    geometry: tuple[GeometryName, ...] | None = None
    rotate: tuple[tuple[str, str], ...] = ()

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates, no field.

        A static field is read from the first file that has it, and held against all others as it is read.

        Raises:
            DataError: if axes cannot be recognised, files differ in coordinates, levels or what they measure, or
                overlap in time, or names are ambiguous.
        """
        options = ReadOptions(
            self.axes, self.variables, self._name, self.select, self.dates, self.cells, self.grid_file
        )
        files = [file for path in self.places() for file in read_files(path, options)]
        fields = self._fields(files)
        coordinates = merged(fields)
        place = files[0].path
        horizontal = _horizontal(files)
        if horizontal is not None and horizontal.in_one_dimension:
            coordinates["y"] = files[0].coordinates["y"]
            # The numbers of cells; where these lie is told below.
            grid, columns = Grid("cartesian", coordinates["y"].values, coordinates["x"].values), None
        else:
            grid, columns = self._grid(place, coordinates["y"], coordinates["x"])
        sizes = {"trajectory": 1} | {axis: len(values) for axis, values in coordinates.items()}
        times, starts = coordinates["time"].values, coordinates.get("trajectory")  # the starts of forecasts
        ds = convention.assemble(
            {name: on_times(name, stored, sizes, times) for name, stored in fields.items()},
            grid=grid,
            time=times,
            time_units=str(coordinates["time"].attrs.get("units", "1")),
            level=coordinates.get("level"),
            dataset=self.identifier(),
            source_format=self.kind,
            sources=self.places(),
            num_trajectories=sizes["trajectory"],
            license=self.license or _documented(files[0], "license", "licence"),
            references=self.references or _documented(files[0], "references", "reference"),
            not_read=_skipped(files),
            grid_file=self.grid_file,
        )
        if starts is not None:
            ds = ds.assign_coords(trajectory=forecast_labels(starts.values))
            # Beside the labels, so that what depends on the date can be computed for each frame of a forecast.
            if is_dated(starts.values):
                ds = ds.assign_coords(start=("trajectory", starts.values))
        ds = self._placed(ds, horizontal)
        return self._ordered(ds.pipe(columns.cut) if columns else ds)

    def _placed(self, ds: xr.Dataset, horizontal: Horizontal | None) -> xr.Dataset:
        """The dataset with what is known of where its points lie."""
        label = ds.attrs["dataset"]
        if horizontal is None or horizontal.in_one_dimension:
            if self.geometry or self.rotate:
                option = "geometry" if self.geometry else "rotate"
                raise ConfigError(
                    f"source.{option}: {label} has no two-dimensional latitudes and longitudes along rows and columns"
                )
            return ds if horizontal is None else _with_cells(ds, horizontal.cells).assign_attrs(grid=CELLS)
        cells, shape = horizontal.cells, (ds.sizes["y"], ds.sizes["x"])
        latitude, longitude = (one.reshape(shape) for one in (cells.latitude, cells.longitude))
        by_default = GEOMETRY if horizontal.needed and not self.variables and min(shape) > 1 else ()
        names = by_default if self.geometry is None else self.geometry
        if doubled := [name for name in names if name in ds]:
            raise ConfigError(
                f"source.geometry: {label} has a field {doubled[0]} of its own; leave it out here, or rename that one"
            )
        ds = self._turned(ds, latitude, longitude)
        return _with_cells(ds.assign(geometry_fields(latitude, longitude, names) if names else {}), cells)

    def _turned(self, ds: xr.Dataset, latitude: Floats, longitude: Floats) -> xr.Dataset:
        """The dataset with the components that the user names turned eastwards and northwards."""
        for pair in self.rotate:
            for name in pair:
                if name not in ds or ds[name].dims != ds[pair[0]].dims:
                    raise ConfigError(
                        f"source.rotate: {ds.attrs['dataset']} has no field {name} beside {pair[0]}; both components of"
                        " a vector, by their new names, would be right"
                    )
                if ds[name].attrs.get("GRIB_uvRelativeToGrid") == "0":
                    raise ConfigError(
                        f"source.rotate: {name} of {ds.attrs['dataset']} points eastwards or northwards already, as its"
                        " GRIB messages say (uvRelativeToGrid = 0); leave it out"
                    )
            u, v = to_earth(ds[pair[0]].variable, ds[pair[1]].variable, grid_angle(latitude, longitude))
            ds = ds.assign({pair[0]: u, pair[1]: v})
        return ds

    def _fields(self, files: Sequence[CFFile]) -> dict[str, list[CFField]]:
        """Each wanted field in the files that have it, in the order wanted."""
        found: dict[str, list[CFField]] = {}
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
        return {name: stacked(name, found[name]) for name in self.variables or found}

    def _name(self, key: str, stored: xr.Variable) -> str:
        standard = str(stored.attrs.get("standard_name", ""))
        # CF also allows a modifier after a space ("air_temperature standard_error"), which is another quantity.
        usable = self.standard_names and re.fullmatch(r"\w+", standard) and standard != "unknown"
        return self.rename.get(key, standard if usable else key)

    def _grid(self, place: Path | Url, y: xr.Variable, x: xr.Variable) -> tuple[Grid, LongitudeAxis | None]:
        """The grid of all columns, and on the Earth which of them repeat others."""
        rows, columns = (np.asarray(axis.values, np.float64) for axis in (y, x))
        if not self._on_earth(place, y, x):
            rows, units = _in_one_unit(place, y, x, rows)
            return Grid("cartesian", rows, columns, *self._beyond(place, y, x), units), None
        rows, columns = _in_degrees(place, "y", y, rows), _in_degrees(place, "x", x, columns)
        _require_latitudes(place, rows)
        axis = LongitudeAxis.of(place, columns)
        if self.boundary:
            sides = self.boundary.y, self.boundary.x
        else:
            sides = beyond_edges(rows, axis.values[axis.kept])
            if axis.repeats:  # a column that comes again after 360 degrees proves that they go round
                sides = sides[0], ("periodic", "periodic")
        return Grid("latlon", rows, axis.values, *sides, "degrees"), axis

    def _on_earth(self, place: Path | Url, y: xr.Variable, x: xr.Variable) -> bool:
        if self.grid:
            return self.grid == "latlon"
        angles = [is_angle(y, LATITUDE), is_angle(x, LONGITUDE)]
        bare = [axis.attrs.get("units", "") in _DEGREES and not is_projected(axis) for axis in (y, x)]
        if not all(angles) and (any(angles) or all(bare)):
            ask(
                "grid",
                "",
                f"{place}: its rows ({_described(y)}) and columns ({_described(x)}) are taken as a Cartesian grid,"
                " without poles, areas of cells and wrapping around",
                "source.grid: latlon, or cartesian",
            )
        return all(angles)

    def _beyond(self, place: Path | Url, y: xr.Variable, x: xr.Variable) -> tuple[Sides, Sides]:
        """What lies beyond the edges of a Cartesian grid."""
        if self.boundary:
            return self.boundary.y, self.boundary.x
        self._assume_open(place, y, x)
        return ("open", "open"), ("open", "open")

    def _assume_open(self, place: Path | Url, y: xr.Variable, x: xr.Variable) -> None:
        """Say what is assumed: limited areas of weather models end in the open."""
        assume("boundary", "", f"{place}: its grid is taken as a limited area, open on all sides")

    def _ordered(self, ds: xr.Dataset) -> xr.Dataset:
        if self.latitude == "keep":
            return ds
        if ds.attrs["grid"] != "latlon":
            raise ConfigError("latitude: the rows of a projected grid are not latitudes; leave this at keep")
        ascending = bool(ds.y[-1] > ds.y[0])
        if ascending == (self.latitude == "ascending"):
            return ds
        # Sides are given low side first, so they turn with the rows.
        low, high = ds.attrs["boundary_y"].split(",")
        return ds.isel(y=slice(None, None, -1)).assign_attrs(boundary_y=f"{high},{low}")


def _with_cells(ds: xr.Dataset, cells: Cells) -> xr.Dataset:
    return ds.assign_coords(cells.coordinates((ds.sizes["y"], ds.sizes["x"]))).assign_attrs(cells.attrs())


def _horizontal(files: Sequence[CFFile]) -> Horizontal | None:
    """Where the points of all files lie.

    Raises:
        DataError: files of cells differ, or not all of them say.
    """
    first = files[0].horizontal
    for other in files[1:]:
        if first is None or (other.horizontal is not None and first.agrees(other.horizontal)):
            continue
        if not first.needed:
            return None  # the coordinates along rows and columns, which are compared elsewhere, are enough
        raise DataError(
            f"{files[0].path} and {other.path} differ in the latitudes and longitudes of their {first.cells.kind};"
            " files on one grid would be right"
        )
    return first


def _described(axis: xr.Variable) -> str:
    values = axis.values
    units = axis.attrs.get("units", "no units")
    return f"{axis.attrs.get('standard_name', '')} from {values[0]:g} to {values[-1]:g}, {units}".strip()


def _in_one_unit(place: Path | Url, y: xr.Variable, x: xr.Variable, rows: Floats) -> tuple[Floats, str]:
    """The rows in the unit of the columns, and that unit: a grid has one, by which spacings and areas are compared."""
    own, units = (str(axis.attrs.get("units", "1")) for axis in (y, x))
    if own == units:
        return rows, units
    try:
        scale, offset = conversion(own, units)
    except ConfigError:
        text = f"{place}: its rows are in {own!r} and its columns in {units!r}; both are taken to be in {units!r}"
        stated = "1" not in (own, units)  # an axis without units is more often careless than of another kind
        assume("grid", "", text, "correct the units of its coordinates, or accept: [grid]", question=stated)
        return rows, units
    if (scale, offset) == (1, 0):
        return rows, units
    assume("units_converted", "y", f"{place}: y is in {own} and x in {units}; y converted to {units}")
    return scale * rows + offset, units


def _in_degrees(
    place: Path | Url, name: str, axis: xr.Variable, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    if not str(axis.attrs.get("units", "")).casefold().startswith("rad"):
        return values
    assume("units_converted", name, f"{place}: {name} is in radians; converted to degrees")
    return np.rad2deg(values)


def _require_latitudes(place: Path | Url, rows: NDArray[np.float64]) -> None:
    if np.abs(rows).max() > 90 + 1e-3:  # packed and single-precision poles lie a little beyond 90
        raise DataError(
            f"{place}: its rows go from {rows.min():g} to {rows.max():g}, but latitudes lie between -90 and 90;"
            " set source.axes: {y: ..., x: ...}, or source.grid: cartesian"
        )


def _global(longitudes: NDArray[np.float64]) -> bool:
    """Whether the column after the last would be the first again."""
    steps = np.diff(longitudes)
    even = len(steps) > 0 and np.allclose(steps, steps.mean(), rtol=1e-3)
    return bool(even and np.isclose(abs(steps.mean()) * len(longitudes), 360, rtol=1e-4))


def beyond_edges(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> tuple[Sides, Sides]:
    """What lies beyond the outer latitudes and longitudes: poles, the other end of a circle, or more of the Earth."""
    around: Sides = ("periodic", "periodic") if _global(longitudes) else ("open", "open")
    return _poles(latitudes), around


def _poles(latitudes: NDArray[np.float64]) -> Sides:
    """A side is a pole if no further row would fit before it."""
    # Archives put the last row on the pole or half a step before it.
    step = abs(latitudes[-1] - latitudes[0]) / max(len(latitudes) - 1, 1)
    low, high = ("pole" if 90 - abs(edge) < step * (1 - 1e-3) else "open" for edge in latitudes[[0, -1]])
    return low, high  # type: ignore[return-value]  # both are words of Boundary


def _skipped(files: Sequence[CFFile]) -> str:
    return ", ".join(dict.fromkeys(name for file in files for name in file.skipped))


def _documented(file: CFFile, *names: str) -> str:
    return next((str(file.attrs[name]) for name in names if name in file.attrs), "")
