"""What of a CF file is left out: text, groups, and fields on other points than the grid, as on the faces of cells."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import xarray as xr

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.sources.arrays import zarr_array
from pelagos.preprocessing.sources.arrays.hdf5_file import open_hdf5
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
    if (
        stored.dtype.kind in "SUOT"
        and key not in ds.coords
        and {"time", "y", "x"} & set(map(dims.get, map(str, stored.dims)))
    ):
        assume(
            "fields_not_read",
            key,
            f"{path}: {key} is text, not numbers, and is not read",
            "write it as numbers",
        )
        return
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


def assume_groups_left_out(path: Path, *, alone: bool) -> None:
    """Say which groups of a netCDF-4 file or of a Zarr group hold arrays, which are not read.

    Args:
        path: of the file or store.
        alone: whether the root holds nothing.

    Raises:
        DataError: there is nothing but these groups.
    """
    names = _zarr_groups(zarr_array.open_group(path)) if path.is_dir() else _hdf5_groups(path)
    if not names:
        return
    listed = ", ".join(f"/{name}" for name in names[:10]) + (", ..." if len(names) > 10 else "")
    answer = (
        f"paths: {path}/{names[0]} reads one of them"
        if path.is_dir()
        else f"take one out of the file: ncks -G : -g {names[0]} {path} NEW"
    )
    if alone:
        raise DataError(f"{path}: its root holds no variables, but groups do: {listed}; {answer}")
    assume("fields_not_read", "groups", f"{path}: the root is read, and not its groups {listed}", answer)


def _zarr_groups(group: Any, above: str = "") -> list[str]:
    found = []
    for name, one in sorted(group.groups()):
        own = f"{above}{name}"
        if any(True for _ in one.array_keys()):
            found.append(own)
        found += _zarr_groups(one, f"{own}/")
    return found


def _hdf5_groups(path: Path) -> list[str]:
    found: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and "/" in name and item.ndim > 1:
            found.append(name.rpartition("/")[0])

    with path.open("rb") as file:
        if file.read(4) != b"\x89HDF":
            return []
    with open_hdf5(path) as opened:
        opened.visititems(note)
    return list(dict.fromkeys(found))
