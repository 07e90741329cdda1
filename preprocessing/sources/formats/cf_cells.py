"""Layouts of CF files without latitudes along rows: cells in one dimension, and two-dimensional coordinates.

Such a file says where its points lie by latitudes and longitudes of (cell), as ICON's CLAT and CLON do, or of (y, x);
or by the name of its grid (HEALPix). It is given the coordinates that it lacks, and is then read like all others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.sources.cells import EARTH_RADIUS, Cells, on_sphere
from pelagos.preprocessing.sources.formats.map_projection import PROJECTIONS, MapProjection
from pelagos.preprocessing.sources.formats.plane_geometry import unrotated
from pelagos.preprocessing.sources.formats.reduced_rows import reduced_cells
from pelagos.preprocessing.sources.healpix import Healpix

CellsOption = Literal["healpix_ring", "healpix_nested"]
Pair = tuple[str, str]

CELL_ROW = "cell_row"
"""The single row that is added where points lie in one dimension."""

_LATITUDES = ("latitude", "degrees_north", "degree_north", "degrees_n", "degree_n")
_NAMES = {
    "lat": "lon",
    "latitude": "longitude",
    "clat": "clon",
    "elat": "elon",
    "vlat": "vlon",
    "xlat": "xlong",
    "nav_lat": "nav_lon",
    "tlat": "tlon",
    "tlat_": "tlong",
    "gphit": "glamt",
    "geolat": "geolon",
    "latcell": "loncell",
    "lats": "lons",
    "lat2d": "lon2d",
}
"""Common names of latitudes, in lower case, and those of the longitudes beside them."""
_CELL_DIMS = ("cell", "cells", "ncells", "values", "pix", "pixel", "pixels", "hpx", "healpix", "cell_index")
"""Common names of the dimension along which cells lie, in lower case."""


@dataclass(frozen=True, eq=False)
class Horizontal:
    """Where the points of a file lie.

    Attributes:
        dims: the dimension of cells, or those of rows and columns.
        cells: what lies along them.
        names: of the coordinates that say so.
        needed: whether the file has no other coordinates along its rows or columns.
    """

    dims: tuple[str, ...]
    cells: Cells
    names: tuple[str, ...] = ()
    needed: bool = True

    @property
    def in_one_dimension(self) -> bool:
        """Whether the points lie in no rows."""
        return len(self.dims) == 1

    def agrees(self, other: "Horizontal") -> bool:
        """Whether another file has the same points, up to the rounding of coordinates."""
        one, two = (on_sphere(file.cells.latitude, file.cells.longitude) for file in (self, other))
        if one.shape != two.shape:
            return False
        step = np.median(np.linalg.norm(np.diff(one, axis=0), axis=-1)) if len(one) > 1 else 1.0
        return bool(np.linalg.norm(one - two, axis=-1).max() < 0.05 * step)


def find_cells(
    path: Path | Url,
    ds: xr.Dataset,
    given: Mapping[Any, str],
    option: CellsOption | None,
    *,
    in_rows: bool,
) -> Horizontal | None:
    """Where the points of a file lie, if it has no rows of latitude; reads coordinates.

    Args:
        path: of the file or store, for messages.
        ds: the file, with the names of its coordinates decoded.
        given: the dimensions of axes that the user names.
        option: the kind of cells that the user names.
        in_rows: whether rows and columns are known by their names.

    Raises:
        DataError: coordinates contradict one another or what the user names.
    """
    _refuse_harmonics(path, ds)
    pixels = _named_healpix(path, ds, given, option)
    if pixels is not None:
        return pixels
    pairs = [pair for key in ds.variables if (pair := _pair(ds, str(key))) is not None]
    pairs = [pair for pair in pairs if not (in_rows and len(pair[1]) == 1)]
    # A file may place cells, edges and vertices of one mesh: most fields lie on what it is about.
    counts = [sum(set(dims) <= set(one.dims) for one in ds.variables.values()) for _, dims in pairs]
    if not pairs:
        _refuse_bare_cells(path, ds, in_rows=in_rows)
        return _with_rotated_pole(ds) or _with_projection(path, ds)
    names, dims = pairs[int(np.argmax(counts))]
    if len(dims) == 2 and _complete(ds, dims) and any(_moves(ds, name, dims) for name in names):
        return None  # its own coordinates are enough to read it
    latitude, longitude = (_degrees(path, ds, name, dims) for name in names)
    corners = _corners(path, ds, names, dims)
    cells = Cells(
        latitude, longitude, "points" if len(dims) == 2 else "cells", corners, _along_parallels(corners)
    )
    if len(dims) == 2:
        return Horizontal(dims, cells, names, needed=not _complete(ds, dims))
    return Horizontal(dims, _of_known_kind(cells), names)


def cell_coordinates(grid: xr.Dataset) -> dict[str, list[str]]:
    """For each dimension of cells the names of their latitudes, longitudes and corners."""
    found: dict[str, list[str]] = {}
    for key in grid.variables:
        pair = _pair(grid, str(key))
        if pair is not None and len(pair[1]) == 1 and pair[1][0] not in found:
            corners = [str(grid.variables[name].attrs.get("bounds", f"{name}_vertices")) for name in pair[0]]
            found[pair[1][0]] = [*pair[0], *(one for one in corners if one in grid.variables)]
    return dict(sorted(found.items(), key=lambda one: "cell" not in one[0].casefold()))


def with_axes(path: Path | Url, ds: xr.Dataset, found: Horizontal) -> xr.Dataset:
    """The file with coordinates along its rows and columns where it has none."""
    if not found.needed:
        return ds
    ds = ds.set_coords([name for name in found.names if name not in ds.coords])
    if found.in_one_dimension:
        (cell,) = found.dims
        numbers = xr.Variable(
            (cell,), np.arange(ds.sizes[cell], dtype=np.float64), {"axis": "X", "units": "1"}
        )
        row = xr.Variable((CELL_ROW,), np.zeros(1), {"axis": "Y", "units": "1"})
        return ds.drop_vars(cell, errors="ignore").assign_coords({cell: numbers, CELL_ROW: row})
    shape = (ds.sizes[found.dims[0]], ds.sizes[found.dims[1]])
    latitude, longitude = (one.reshape(shape) for one in (found.cells.latitude, found.cells.longitude))
    steps, counted = _spacing_of_messages(ds), "their spacing in the projection"
    if steps is None:
        steps, counted = mean_spacing(latitude, longitude), "their mean distance on the Earth"
    # Rows that run southwards have falling coordinates, as on grids of latitudes.
    southwards = bool(latitude[-1].mean() < latitude[0].mean())
    added = {}
    for dim, axis, step, sign in zip(found.dims, "yx", steps, (-1 if southwards else 1, 1), strict=True):
        if dim not in ds.variables:
            values = sign * float(f"{step:.4g}") * np.arange(ds.sizes[dim], dtype=np.float64)
            added[dim] = xr.Variable((dim,), values, {"axis": axis.upper(), "units": "m"})
    if added:
        assume(
            "grid",
            "",
            f"{path}: it gives no coordinates along {' and '.join(added)}; points are counted by {counted},"
            f" {' and '.join(f'{step / 1000:.4g} km' for step in steps)} along y and x",
            "regrid: {to: latlon, ...} for latitudes and longitudes, or accept: [grid]",
        )
    return ds.assign_coords(added)


def _complete(ds: xr.Dataset, dims: tuple[str, ...]) -> bool:
    return all(dim in ds.variables for dim in dims)


def _spacing_of_messages(ds: xr.Dataset) -> tuple[float, float] | None:
    """The spacing along y and x that messages of GRIB give in metres, if they do."""
    for one in ds.variables.values():
        steps = [one.attrs.get(f"GRIB_D{axis}InMetres") for axis in "yx"]
        if all(step is not None and float(step) > 0 for step in steps):
            return float(steps[0]), float(steps[1])  # type: ignore[arg-type]  # neither is None
    return None


def mean_spacing(latitude: Floats, longitude: Floats) -> tuple[float, float]:
    """Mean distances between neighbours along y and along x, in metres, of points (H, W) in degrees."""
    xyz = on_sphere(latitude, longitude)
    steps = (np.linalg.norm(np.diff(xyz, axis=axis), axis=-1) for axis in (0, 1))
    along_y, along_x = (2 * EARTH_RADIUS * np.arcsin(one / 2).mean() if one.size else 1.0 for one in steps)
    return float(along_y), float(along_x)


def _refuse_harmonics(path: Path | Url, ds: xr.Dataset) -> None:
    for key, one in ds.variables.items():
        if one.attrs.get("GRIB_gridType") == "sh":
            raise DataError(
                f"{path}: {key} is stored as spherical harmonics up to wavenumber {one.attrs.get('GRIB_M', '?')}, which"
                " are not read; fetch or make it on a Gaussian grid"
            )


def _refuse_bare_cells(path: Path | Url, ds: xr.Dataset, *, in_rows: bool) -> None:
    """Raise DataError where there are cells by their name, but nothing says where they lie."""
    bare = [str(dim) for dim in ds.dims if str(dim).casefold() in _CELL_DIMS]
    if in_rows or not bare:
        return
    fits = Healpix.of_length(ds.sizes[bare[0]], nested=False)
    pixels = (
        f"; if they are HEALPix of nside {fits.nside}, source.cells: healpix_nested or healpix_ring"
        if fits
        else ""
    )
    raise DataError(
        f"{path}: nothing says where the {ds.sizes[bare[0]]} cells along {bare[0]} lie; coordinates lat({bare[0]}) and"
        f" lon({bare[0]}) would be right, or source.grid_file: FILE where another file has them{pixels}"
    )


def _named_healpix(
    path: Path | Url, ds: xr.Dataset, given: Mapping[Any, str], option: CellsOption | None
) -> Horizontal | None:
    """Pixels of HEALPix by the option, or by the variable that maps the grid; they need no coordinates."""
    mapped = [one.attrs for one in ds.variables.values() if one.attrs.get("grid_mapping_name") == "healpix"]
    if option is None and not mapped:
        return None
    nested = option == "healpix_nested"
    if option is None:
        order = str(mapped[0].get("healpix_order", mapped[0].get("indexing_scheme", ""))).casefold()
        if not order.startswith(("nest", "ring")):
            raise DataError(
                f"{path}: its grid mapping is HEALPix, but in the order '{order}'; nested or ring would be right."
                " Set source.cells: healpix_nested or healpix_ring"
            )
        nested = order.startswith("nest")
    sizes = {str(dim): Healpix.of_length(size, nested=nested) for dim, size in ds.sizes.items()}
    fitting = [dim for dim, pixels in sizes.items() if pixels is not None]
    named = [dim for dim in fitting if dim == given.get("x")] or [
        dim for dim in fitting if dim.casefold() in _CELL_DIMS
    ]
    dim = next(iter(named or (fitting if len(fitting) == 1 else [])), None)
    if dim is None or (pixels := sizes[dim]) is None:
        raise DataError(
            f"{path}: which dimension counts the pixels of HEALPix? It has {dict(ds.sizes)}; 12 nside² are a whole"
            " sphere. Set axes, as in axes: {x: NAME}"
        )
    side = mapped[0].get("healpix_nside") if mapped else None
    if side is not None and int(side) != pixels.nside:
        raise DataError(
            f"{path}: {dim} has {pixels.size} pixels, but its grid mapping says nside {int(side)}, which has"
            f" {12 * int(side) ** 2}; parts of a sphere need latitudes and longitudes"
        )
    return Horizontal((dim,), Cells(*pixels.centres(), "pixels of HEALPix", healpix=pixels))


def _with_rotated_pole(ds: xr.Dataset) -> Horizontal | None:
    """Rows and columns about another pole, where the grid mapping says which."""
    mappings = [one.attrs for one in ds.variables.values()]
    pole = next(
        (one for one in mappings if one.get("grid_mapping_name") == "rotated_latitude_longitude"), None
    )
    axes = [
        [
            str(dim)
            for dim in ds.dims
            if dim in ds.variables and ds.variables[dim].attrs.get("standard_name") == name
        ]
        for name in ("grid_latitude", "grid_longitude")
    ]
    keys = ("grid_north_pole_latitude", "grid_north_pole_longitude")
    if pole is None or any(len(found) != 1 for found in axes) or any(key not in pole for key in keys):
        return None
    dims = (axes[0][0], axes[1][0])
    rows, columns = (ds.variables[dim].values.astype(np.float64) for dim in dims)
    north, east = (float(np.ravel(pole[key])[0]) for key in keys)
    shift = float(np.ravel(pole.get("north_pole_grid_longitude", 0.0))[0])
    latitude, longitude = unrotated(rows, columns, (north, east), shift)
    return Horizontal(dims, Cells(latitude.ravel(), longitude.ravel(), "points"), needed=False)


def _with_projection(path: Path | Url, ds: xr.Dataset) -> Horizontal | None:
    """Rows and columns on a map, where the grid mapping has a projection and their units are lengths."""
    mapped = (one.attrs for one in ds.variables.values() if "grid_mapping_name" in one.attrs)
    attrs = next((one for one in mapped if one["grid_mapping_name"] in PROJECTIONS), None)
    dims = tuple(_projected_dim(ds, axis) for axis in "yx")
    projection = None if attrs is None else MapProjection.of(attrs)
    if attrs is None or dims[0] is None or dims[1] is None:
        return None
    if projection is None:
        raise DataError(
            f"{path}: its grid mapping {attrs['grid_mapping_name']} lacks parameters; standard_parallel, the latitude"
            " of its origin and the longitude of its meridian, as in CF's appendix F, would be right"
        )
    y, x = (_in_metres(ds.variables[dim]) for dim in (dims[0], dims[1]))
    if y is None or x is None:
        return None
    if not {"earth_radius", "semi_major_axis"} & set(attrs):
        text = f"{path}: its grid mapping states no radius of the Earth; taken as {EARTH_RADIUS / 1000:g} km"
        assume("grid", "", text, "correct the file, or accept: [grid]")
    latitude, longitude = projection.inverse(*np.meshgrid(x, y))
    return Horizontal((dims[0], dims[1]), Cells(latitude.ravel(), longitude.ravel(), "points"), needed=False)


def _projected_dim(ds: xr.Dataset, axis: str) -> str | None:
    named = [
        str(dim)
        for dim in ds.dims
        if dim in ds.variables
        and ds.variables[dim].attrs.get("standard_name") == f"projection_{axis}_coordinate"
    ]
    return named[0] if len(named) == 1 else axis if not named and axis in ds.variables else None


def _in_metres(coordinate: xr.Variable) -> Floats | None:
    try:
        scale, offset = conversion(str(coordinate.attrs.get("units", "")), "m")
    except ConfigError:
        return None
    return np.asarray(scale * coordinate.values.astype(np.float64) + offset)


def _pair(ds: xr.Dataset, key: str) -> tuple[Pair, tuple[str, ...]] | None:
    """A latitude with the longitude beside it, and the dimensions along which both vary together."""
    one = ds.variables[key]
    says = {str(one.attrs.get(name, "")).casefold() for name in ("standard_name", "units")}
    if not (says & set(_LATITUDES) or key.casefold() in _NAMES) or one.dtype.kind != "f":
        return None
    dims = _varying(one)
    if len(dims) not in (1, 2) or (len(dims) == 1 and dims[0] == key):
        return None
    for other, two in ds.variables.items():
        name, said = str(other).casefold(), str(two.attrs.get("standard_name", "")).casefold()
        beside = name in (
            _NAMES.get(key.casefold()),
            f"{key.casefold()[:-3]}lon",
            key.casefold().replace("lat", "lon"),
        )
        if (beside or said == "longitude") and _varying(two) == dims and str(other) not in (key, *dims):
            return (key, str(other)), dims
    return None


def _varying(one: xr.Variable) -> tuple[str, ...]:
    """The dimensions of a coordinate without those of time, along which models repeat it."""
    return tuple(
        str(dim)
        for dim, size in zip(one.dims, one.shape, strict=True)
        if not (str(dim).casefold() in ("time", "t") or (size == 1 and one.ndim > 2))
    )


def _degrees(path: Path | Url, ds: xr.Dataset, name: str, dims: tuple[str, ...]) -> Floats:
    if _moves(ds, name, dims):
        raise DataError(f"{path}: {name} changes with time; a grid that stays where it is would be right")
    stored = ds.variables[name]
    one = stored.isel({dim: 0 for dim in stored.dims if dim not in dims}).transpose(*dims)
    values = one.values.astype(np.float64).ravel()
    values = values * float(stored.attrs.get("scale_factor", 1)) + float(stored.attrs.get("add_offset", 0))
    return _in_degrees(values, stored.attrs)


def _moves(ds: xr.Dataset, name: str, dims: tuple[str, ...]) -> bool:
    """Whether a coordinate that is repeated along time is another at its end."""
    stored = ds.variables[name]
    first, last = (stored.isel({dim: at for dim in stored.dims if dim not in dims}) for at in (0, -1))
    return not np.array_equal(first.values, last.values, equal_nan=True)


def _in_degrees(values: Floats, attrs: Mapping[Any, Any]) -> Floats:
    return np.rad2deg(values) if str(attrs.get("units", "")).casefold().startswith("rad") else values


def _corners(path: Path | Url, ds: xr.Dataset, names: Pair, dims: tuple[str, ...]) -> Floats | None:
    """(2, N, V) corners of the cells, where the coordinates name their bounds."""
    found = []
    for name in names:
        attrs = ds.variables[name].attrs
        key = str(attrs.get("bounds", f"{name}_vertices"))
        if key not in ds.variables:
            return None
        bounds = ds.variables[key]
        if bounds.ndim != len(dims) + 1 or set(dims) - set(bounds.dims) or bounds.shape[-1] < 3:
            return None
        values = bounds.transpose(*dims, ...).values.astype(np.float64)
        # CF lets bounds leave out the units of what they bound.
        units = bounds.attrs if "units" in bounds.attrs else attrs
        found.append(_in_degrees(values.reshape(-1, values.shape[-1]), units))
    corners = np.stack(found)
    if not np.isfinite(corners).all():
        raise DataError(f"{path}: bounds of {names[0]} and {names[1]} are missing for some cells")
    return corners


def _along_parallels(corners: Floats | None) -> bool:
    """Whether all cells are boxes of latitude and longitude."""
    if corners is None or corners.shape[-1] != 4:
        return False
    steps = np.abs(np.diff(corners, axis=-1, append=corners[..., :1]))
    return bool(np.all(np.minimum(steps[0], steps[1] % 360) < 1e-9))


def _of_known_kind(cells: Cells) -> Cells:
    """The cells with what they cover, where it follows from where they lie: HEALPix and reduced grids."""
    for nested in (True, False):
        pixels = Healpix.of_length(len(cells.latitude), nested=nested)
        if pixels is None:
            continue
        latitude, longitude = pixels.centres()
        apart = np.abs((longitude - cells.longitude + 180) % 360 - 180) * np.cos(np.deg2rad(latitude))
        if (
            max(np.abs(latitude - cells.latitude).max(), apart.max()) < 2 / pixels.nside
        ):  # of 59 / nside from cell to cell
            return Cells(latitude, longitude, "pixels of HEALPix", healpix=pixels)
    return cells if cells.has_areas else reduced_cells(cells)
