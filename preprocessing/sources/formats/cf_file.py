"""One CF file: its coordinates, and those of its variables that are fields on its grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.location import Url
from pelagos.preprocessing.sources.formats.cf_axes import (
    CFAxis,
    find_axes,
    in_hours,
    is_lead_time,
    read_coordinate,
    scalar_time,
)
from pelagos.preprocessing.sources.formats.cf_cells import (
    CELL_ROW,
    CellsOption,
    Horizontal,
    find_cells,
    with_axes,
)
from pelagos.preprocessing.sources.formats.cf_left_out import assume_left_out
from pelagos.preprocessing.sources.formats.cf_time import with_dates
from pelagos.preprocessing.sources.formats.cf_variable import PackedVariable, is_group, open_undecoded


@dataclass(frozen=True, eq=False)
class CFField:
    """A field of one file; `axes` are its axes in the convention's words, None for one of length 1."""

    reader: PackedVariable
    axes: tuple[CFAxis | None, ...]
    attrs: Mapping[str, Any]
    file: "CFFile"

    @property
    def dated(self) -> bool:
        """Whether it depends on time, be it for the single time of its file."""
        return "time" in self.axes or self.file.snapshot


@dataclass(frozen=True, eq=False)
class CFFile:
    """What one file holds.

    Attributes:
        path: of the file or store.
        coordinates: by axis.
        snapshot: whether it has a single time, and no axis for it.
        attrs: of the file.
        fields: those wanted, by their new names.
        offered: new names of all fields.
        skipped: own names of the variables that are no fields.
        horizontal: where its points lie, if that is known beside or instead of rows and columns.
    """

    path: Path | Url
    coordinates: dict[CFAxis, xr.Variable]
    snapshot: bool
    attrs: Mapping[str, Any]
    fields: dict[str, CFField] = field(default_factory=dict)
    offered: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    horizontal: Horizontal | None = None


def read_file(
    path: Path | Url,
    given: Mapping[CFAxis, str],
    wanted: Sequence[str],
    name_of: Callable[[str, xr.Variable], str],
    cells: CellsOption | None = None,
) -> CFFile:
    """What a file holds; reads coordinates, no field.

    Args:
        path: of the file or store.
        given: the dimensions of axes that the user names.
        wanted: new names of the fields to keep; all but auxiliary coordinates where there are none.
        name_of: the new name of a variable, from its own name and its attributes.
        cells: the kind of cells that the user names, for files that do not say.

    Raises:
        DataError: if axes cannot be recognised, or two fields would have one name.
    """
    with open_undecoded(path) as undecoded:
        ds = with_dates(path, undecoded)
        horizontal = find_cells(path, ds, given, cells, in_rows=_in_rows(path, ds, given))
        ds = ds if horizontal is None else with_axes(path, ds, horizontal)
        axes = find_axes(path, ds, given)
        dims = {dim: axis for axis, dim in axes.items()}
        coordinates = {axis: read_coordinate(path, dim, ds, axis) for axis, dim in axes.items()}
        if is_lead_time(ds, axes.get("time")):
            coordinates["time"] = in_hours(path, coordinates["time"])
        moment = None if "time" in axes else scalar_time(ds)
        if moment:
            coordinates["time"] = read_coordinate(path, moment, ds, "time")
        file = CFFile(path, coordinates, bool(moment), dict(ds.attrs), horizontal=horizontal)
        bounds = {variable.attrs.get("bounds") for variable in ds.variables.values()}
        keys = [str(key) for key in ds.variables if key not in ds.dims]
        # A Zarr group lists its arrays as its folder does, which differs between copies.
        for key in sorted(keys) if is_group(path) else keys:
            stored, name = ds.variables[key], name_of(key, ds.variables[key])
            if key in bounds or not _on_grid(stored, dims, bool(moment)):
                file.skipped.append(key)
                if not wanted:
                    assume_left_out(path, key, ds, bounds, dims)
                continue
            file.offered.append(name)
            if name not in wanted and (wanted or key in ds.coords):
                continue
            reader = PackedVariable.of(path, key, stored)
            if name in file.fields:
                raise DataError(
                    f"{reader.name} and {file.fields[name].reader.key} would both be called"
                    f" {name}; rename one of them, as in rename: {{{key}: {key}_2}}"
                )
            file.fields[name] = CFField(reader, _axes_of(reader, stored, dims), stored.attrs, file)
    return file


def _in_rows(path: Path | Url, ds: xr.Dataset, given: Mapping[CFAxis, str]) -> bool:
    """Whether the names of dimensions tell rows and columns."""
    try:
        return bool(find_axes(path, ds, given))
    except DataError:
        return False


def _on_grid(stored: xr.Variable, dims: Mapping[str, CFAxis], dated: bool) -> bool:
    """Whether a variable is read as a field: it has rows and columns, and levels only with time."""
    axes = {dims.get(str(dim)) for dim in stored.dims}
    fixed_levels = "level" in axes and not dated and axes <= {"level", "y", "x"}
    if (
        CELL_ROW in dims
    ):  # one row, which the file does not know; corners and neighbours of its cells are no fields
        return (
            stored.dtype.kind in "iufb"
            and "x" in axes
            and not fixed_levels
            and (None not in axes or "time" in axes)
        )
    return stored.dtype.kind in "iufb" and {"y", "x"} <= axes and not fixed_levels


def _axes_of(
    reader: PackedVariable, stored: xr.Variable, dims: Mapping[str, CFAxis]
) -> tuple[CFAxis | None, ...]:
    for dim, length in zip(stored.dims, stored.shape, strict=True):
        if dim not in dims and length > 1:
            unseen = "level" if "time" in dims.values() else "time"
            raise DataError(
                f"{reader.name} has {length} values along {dim}, which is neither time, level, y nor x;"
                f" list the other fields in variables, or say what {dim} is, as in axes: {{{unseen}: {dim}}}"
            )
    return tuple(dims.get(str(dim)) for dim in stored.dims)
