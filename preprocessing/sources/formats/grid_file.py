"""Grid file: the latitudes and longitudes of cells that a model keeps in a file of their own, as ICON does."""

from pathlib import Path

import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url, locate
from pelagos.preprocessing.sources.formats.cf_cells import cell_coordinates
from pelagos.preprocessing.sources.formats.cf_variable import open_undecoded

_IDENTIFIERS = ("uuidOfHGrid", "uuidofhgrid")
"""Attributes by which ICON names the grid of a file."""


def with_grid_file(path: Path | Url, ds: xr.Dataset, grid_file: str) -> xr.Dataset:
    """The dataset with the coordinates of its cells, and the corners of these, from another file.

    Raises:
        DataError: the file has no coordinates for as many cells, or is of another grid.
    """
    with open_undecoded(locate(grid_file)) as grid:
        names = [[str(one.attrs[key]) for key in _IDENTIFIERS if key in one.attrs] for one in (ds, grid)]
        if names[0] and names[1] and names[0] != names[1]:
            raise DataError(
                f"source.grid_file: {path} is on the grid {names[0][0]}, and {grid_file} holds {names[1][0]}"
            )
        pairs = cell_coordinates(grid)
        fitting = {
            (str(dim), cell): found
            for cell, found in pairs.items()
            for dim, size in ds.sizes.items()
            if size == grid.sizes[cell]
        }
        if not fitting:
            counts = ", ".join(f"{grid.sizes[cell]} along {cell}" for cell in pairs) or "none"
            raise DataError(
                f"source.grid_file: {grid_file} has latitudes and longitudes of {counts}, and {path} the dimensions"
                f" {dict(ds.sizes)}; the grid file of these data would be right"
            )
        # Cells before edges and vertices, should these be as many.
        (dim, cell), found = next(iter(fitting.items()))
        held = {key: grid.variables[key].load().copy() for key in found}
    return ds.assign_coords(
        {
            key: xr.Variable(
                [dim if one == cell else one for one in held[key].dims], held[key].values, held[key].attrs
            )
            for key in found
        }
    )
