"""TargetGrid: the grid of a store, and how frames of the source get there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.coarsen import Coarsener, coarse_grid
from pelagos.preprocessing.fields.field_options import FieldOptions, Subset
from pelagos.preprocessing.fields.regrid_cells import propose_rows, regrid_cells
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.cells import CELLS, cells_of, has_cells, without_cells
from pelagos.preprocessing.sources.formats.plane_geometry import corners_between

Frame = NDArray[Any]
Bounds = tuple[float, float]
_ALONG_ROWS = ("x_wind", "y_wind", "grid_eastward_wind", "grid_northward_wind")
"""Standard names of components along rows and columns."""
_MOVED = 0.01  # of an area; Gaussian latitudes stay below
_SLACK = 1e-3  # of the spacing: many archives store coordinates in float32


@dataclass(frozen=True, eq=False)
class TargetGrid:
    """The grid of a store and the steps that take a frame of the source there.

    Attributes:
        grid: the grid of the store.
        steps: functions of one frame, applied in order.
    """

    grid: Grid
    steps: tuple[Callable[[Frame], Frame], ...] = ()

    def __call__(self, frame: Frame) -> Frame:
        """One frame (H, W) of the source to one on the grid."""
        for step in self.steps:
            frame = step(frame)
        return frame


@dataclass(frozen=True, eq=False)
class ColumnOrder:
    """Takes columns in an order of their own, for a region across the seam of the source's longitudes."""

    positions: NDArray[np.int64]

    def __call__(self, frame: Frame) -> Frame:
        """One frame (H, W) to (H, columns)."""
        return frame[:, self.positions]


def target_grid(ds: xr.Dataset, options: FieldOptions) -> tuple[xr.Dataset, TargetGrid]:
    """The dataset cropped to the rows and columns to read, and the steps that remain for each frame.

    Raises:
        ConfigError: an option contradicts the grid, or two contradict each other.
    """
    if options.regrid is not None and options.coarsen > 1:
        raise ConfigError("coarsen: regrid also says which grid the store has; give only one of them")
    if ds.attrs["grid"] == CELLS or (options.regrid is not None and options.regrid.to == "latlon"):
        return without_cells(ds), _from_cells(ds, options)
    ds = without_cells(ds)
    ds, grid, crop = _cropped(ds, options.subset)
    if options.regrid is not None:
        regridder = options.regrid.build(grid)
        return ds, TargetGrid(regridder.grid, (*crop, regridder))
    if options.coarsen > 1:
        coarse = coarse_grid(grid, options.coarsen)
        _say_moved_edges(ds.attrs["dataset"], grid, coarse, options.coarsen)
        return ds, TargetGrid(coarse, (*crop, Coarsener(grid, options.coarsen)))
    return ds, TargetGrid(grid, crop)


def _say_moved_edges(label: str, fine: Grid, coarse: Grid, factor: int) -> None:
    """Say where the cells of a coarse uneven grid, whose edges are half-way between its points, are not the blocks."""
    blocks = fine.area_weights().reshape(coarse.shape[0], factor, coarse.shape[1], factor).mean(axis=(1, 3))
    off = float(np.abs(coarse.area_weights() / (blocks / blocks.mean()) - 1).max())
    if off > _MOVED:
        assume(
            "regridded",
            "",
            f"{label}: coarsening by {factor} takes the means of whole cells, but on uneven axes the edges of the new"
            f" cells lie half-way between their points: areas in scores and losses are off by up to {off:.1%}",
            "regrid: {shape: [...]} keeps integrals; or accept: [regridded]",
        )


def _from_cells(ds: xr.Dataset, options: FieldOptions) -> TargetGrid:
    """Latitudes and longitudes for a dataset whose points lie elsewhere."""
    label = ds.attrs["dataset"]
    if not has_cells(ds):
        raise ConfigError(
            f"regrid.to: {label} does not say at which latitudes and longitudes its points lie; coordinates of (y, x),"
            " or a grid mapping lambert_conformal_conic, polar_stereographic or rotated_latitude_longitude, are needed"
        )
    cells, shape = cells_of(ds), (ds.sizes["y"], ds.sizes["x"])
    if not cells.has_areas and min(shape) > 1:
        # Of points in rows and columns cells reach half-way to the neighbours.
        latitude, longitude = (one.reshape(shape) for one in (cells.latitude, cells.longitude))
        cells = replace(cells, corners=corners_between(latitude, longitude))
    if options.regrid is None:
        rows = propose_rows(cells)
        method = "conservative" if cells.has_areas else "linear"
        raise ConfigError(
            f"regrid: {label} has {len(cells.latitude)} {cells.kind} in no rows of latitude, and a store keeps rows and"
            f" columns; name a grid, such as regrid: {{shape: [{rows}, {2 * rows}], method: {method}}}"
        )
    _ask_for_directions(ds, label)
    regridder = regrid_cells(options.regrid, cells, label, options.subset.y, options.subset.x)
    return TargetGrid(regridder.grid, (regridder,))


def _ask_for_directions(ds: xr.Dataset, label: str) -> None:
    """Ask about components along rows and columns that are about to leave these."""
    own = [
        str(name)
        for name, array in ds.data_vars.items()
        if array.attrs.get("standard_name") in _ALONG_ROWS or array.attrs.get("GRIB_uvRelativeToGrid") == "1"
    ]
    for name in own:
        ask(
            "regridded",
            name,
            f"{label}: {name} points along rows or columns of the grid that it leaves, and not eastwards or northwards",
            "source.rotate: [[COMPONENT_ALONG_ROWS, COMPONENT_ALONG_COLUMNS]]",
        )


def _cropped(ds: xr.Dataset, subset: Subset) -> tuple[xr.Dataset, Grid, tuple[ColumnOrder, ...]]:
    source = convention.grid_of(ds)
    if subset.y is None and subset.x is None:
        return ds, source, ()
    rows = _rows(source, subset.y)
    columns, x = _columns(source, subset.x)
    grid = source.with_axes(source.y[rows], x)
    ds = ds.isel(y=rows)
    if (np.diff(columns) == 1).all():
        return ds.isel(x=slice(int(columns[0]), int(columns[-1]) + 1)), grid, ()
    # Columns from both ends of the axis: xarray would read such an index column by column.
    return ds, grid, (ColumnOrder(columns),)


def _rows(grid: Grid, bounds: Bounds | None) -> slice:
    if bounds is None:
        return slice(None)
    inside = _within(grid.y, min(bounds), max(bounds), grid.spacing[0])
    if not inside.any():
        raise _nothing_within("y", bounds, grid.y)
    return slice(int(inside.argmax()), len(inside) - int(inside[::-1].argmax()))


def _columns(grid: Grid, bounds: Bounds | None) -> tuple[NDArray[np.int64], Floats]:
    """The positions of the columns in the order wanted, and their coordinates as the bounds count longitudes."""
    everything = np.arange(len(grid.x))
    if bounds is None:
        return everything, grid.x
    if grid.kind == "cartesian":
        columns = np.flatnonzero(_within(grid.x, min(bounds), max(bounds), grid.spacing[1]))
        x = grid.x
    else:
        west, east = bounds
        width = 360.0 if east - west >= 360 else (east - west) % 360
        # Degrees east of the western bound, so that no seam lies within the region.
        slack = _SLACK * grid.spacing[1]
        from_west = (grid.x - west + slack) % 360 - slack
        x = grid.x + 360 * np.round((west + from_west - grid.x) / 360)
        columns = np.flatnonzero(from_west <= width + slack)
        columns = columns[np.argsort(x[columns])][:: 1 if grid.x[-1] >= grid.x[0] else -1]
    if not columns.size:
        raise _nothing_within("x", bounds, grid.x)
    return columns, x[columns]


def _within(values: Floats, low: float, high: float, spacing: float) -> NDArray[np.bool_]:
    slack = _SLACK * spacing
    return np.asarray((values >= low - slack) & (values <= high + slack))


def _nothing_within(axis: str, bounds: Bounds, values: Floats) -> ConfigError:
    reach = f"from {values.min():g} to {values.max():g}"
    return ConfigError(f"subset.{axis}: no point lies within {list(bounds)}; the grid reaches {reach}")
