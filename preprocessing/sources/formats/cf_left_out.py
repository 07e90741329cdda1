"""What of a CF file is left out: fields on other points than those of the grid, as velocities on the faces of cells."""

from collections.abc import Collection, Mapping
from pathlib import Path

import xarray as xr

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.sources.formats.cf_axes import CFAxis


def assume_left_out(
    path: Path | Url, key: str, ds: xr.Dataset, bounds: Collection[str | None], dims: Mapping[str, CFAxis]
) -> None:
    """Say that a variable is not read, where it looks like a field.

    Args:
        path: of the file or store.
        key: the variable's own name.
        ds: the file.
        bounds: names of variables that hold the edges of cells.
        dims: the axes of the grid by the names of their dimensions.
    """
    stored = ds.variables[key]
    # One number, a name, a series or a profile is no field; nor are edges, whether the file says that they are or not.
    extents = [dim for dim, size in stored.sizes.items() if size > 2]
    if key in bounds or key in ds.coords or stored.dtype.kind not in "iufc" or len(extents) < 2:
        return
    grid = ", ".join(dim for dim, axis in dims.items() if axis in ("y", "x"))
    assume(
        "fields_not_read",
        key,
        f"{path}: {key} is on ({', '.join(map(str, stored.dims))}), not on the grid of ({grid}), and is not read",
        "interpolate it to that grid; or make a dataset of it alone by source.axes",
    )
