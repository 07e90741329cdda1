"""One CF file: its coordinates, and those of its variables that are fields on its grid."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.sources.absence import absent_policy
from pelagos.preprocessing.sources.arrays import grib_file
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader
from pelagos.preprocessing.sources.arrays.complex_parts import PARTS, ComplexPart, Part
from pelagos.preprocessing.sources.formats.cf_axes import (
    CFAxis,
    ask_about_members,
    find_axes,
    propose_axes,
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
from pelagos.preprocessing.sources.formats.cf_left_out import assume_groups_left_out, assume_left_out
from pelagos.preprocessing.sources.formats.cf_selection import Selected, Selection, select
from pelagos.preprocessing.sources.formats.cf_time import with_dates
from pelagos.preprocessing.sources.formats.cf_variable import (
    PackedVariable,
    engine_of,
    is_group,
    open_undecoded,
)
from pelagos.preprocessing.sources.formats.grid_file import with_grid_file
from pelagos.preprocessing.sources.formats.scalar_coordinate import ScalarCoordinate, scalar_coordinates
from pelagos.preprocessing.sources.formats.valid_time import (
    DateKind,
    in_hours,
    is_lead_time,
    say_forecasts,
    valid_dates,
)


@dataclass(frozen=True, eq=False)
class CFField:
    """A field of one file.

    Attributes:
        reader: the stored array.
        key: its name in the file.
        axes: its axes in the convention's words, or for each other one the position to select.
        attrs: of the variable.
        file: that it is in.
        scalars: coordinates with a single value, by name: the level of a field that has no axis of levels.
        rounding: by how much packing may have moved a value.
    """

    reader: ArrayReader
    key: str
    axes: tuple[CFAxis | int, ...]
    attrs: Mapping[str, Any]
    file: "CFFile"
    scalars: Mapping[str, ScalarCoordinate] = field(default_factory=dict)
    rounding: float = 0.0

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
        label: for messages, where the file holds more than this.
    """

    path: Path | Url
    coordinates: dict[CFAxis, xr.Variable]
    snapshot: bool
    attrs: Mapping[str, Any]
    fields: dict[str, CFField] = field(default_factory=dict)
    offered: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    horizontal: Horizontal | None = None
    label: str = ""

    @property
    def place(self) -> str:
        """The file, and for GRIB the field, for messages."""
        return self.label or str(self.path)


@dataclass(frozen=True)
class ReadOptions:
    """What a configuration says of files.

    Attributes:
        axes: the dimensions of axes that the user names.
        wanted: new names of the fields to keep; all but auxiliary coordinates where there are none.
        name_of: the new name of a variable, from its own name and its attributes.
        select: values of dimensions that are no axes.
        cells: the kind of cells that the user names, for files that do not say.
        dates: what dates are beside which lead times stand.
        grid_file: another file that says where the cells lie; empty where there is none.
    """

    axes: Mapping[CFAxis, str]
    wanted: Sequence[str]
    name_of: Callable[[str, xr.Variable], str]
    select: Selection
    dates: DateKind | None
    cells: CellsOption | None = None
    grid_file: str = ""


def read_files(path: Path | Url, options: ReadOptions) -> list[CFFile]:
    """What a file holds, each parameter of a GRIB file like a file of its own; reads coordinates, no field.

    Raises:
        DataError: if axes cannot be recognised, or two fields would have one name.
    """
    if isinstance(path, Path) and path.is_file() and engine_of(path) == "cfgrib":
        chosen = grib_file.as_selection(options.select)
        cubes = grib_file.open_cubes(path, chosen, tell=True)
        return [
            _read(path, with_dates(path, ds), replace(options, select={}), _GribReaders(path, chosen, number))
            for number, ds in enumerate(cubes)
        ]
    with open_undecoded(path) as undecoded:
        if isinstance(path, Path) and not options.wanted:
            assume_groups_left_out(path, alone=not undecoded.variables)
        if not undecoded.variables:
            raise DataError(f"{path}: holds no variables, so there are no fields to read")
        return [_read(path, with_dates(path, undecoded), options, None)]


@dataclass(frozen=True)
class _GribReaders:
    """Makes the readers of one cube of a GRIB file."""

    path: Path
    select: grib_file.Selection
    number: int

    def of(self, key: str, stored: xr.Variable) -> grib_file.GribField:
        return grib_file.GribField(
            self.path, key, stored.shape, stored.dtype, self.select, self.number, absent_policy()
        )


def _read(path: Path | Url, ds: xr.Dataset, options: ReadOptions, grib: _GribReaders | None) -> CFFile:
    # The one variable of a cube that came from messages; all others are coordinates.
    label = (
        f"{path}: {next(key for key, one in ds.variables.items() if 'GRIB_paramId' in one.attrs)}"
        if grib
        else ""
    )
    ds = with_grid_file(path, ds, options.grid_file) if options.grid_file else ds
    in_rows = _in_rows(path, ds, options.axes)
    horizontal = find_cells(path, ds, options.axes, options.cells, in_rows=in_rows)
    ds = ds if horizontal is None else with_axes(path, ds, horizontal)
    axes = find_axes(path, ds, options.axes)
    ask_about_members(path, ds, axes)
    dims = {dim: axis for axis, dim in axes.items()}
    coordinates, snapshot = _coordinates(path, ds, axes, options.dates)
    file = CFFile(path, coordinates, snapshot, dict(ds.attrs), horizontal=horizontal, label=label)
    selected = select(path, ds, options.select, dims)
    bounds = {variable.attrs.get("bounds") for variable in ds.variables.values()}
    keys = [str(key) for key in ds.variables if key not in ds.dims]
    # A Zarr group lists its arrays as its folder does, which differs between copies.
    for key in sorted(keys) if is_group(path) else keys:
        stored, name = ds.variables[key], options.name_of(key, ds.variables[key])
        if key in bounds or not _on_grid(stored, dims, snapshot):
            file.skipped.append(key)
            if not options.wanted:
                assume_left_out(path, key, ds, bounds, dims)
            continue
        names: dict[str, Part | None] = {name: None}
        if stored.dtype.kind == "c":
            names = {f"{name}_{part}": part for part in PARTS}
        file.offered.extend(names)
        if options.wanted and not set(names) & set(options.wanted):
            continue
        if not options.wanted and key in ds.coords:
            continue
        if taken := [one for one in names if one in file.fields]:
            raise DataError(
                f"{path}: {key} and {file.fields[taken[0]].key} would both be called"
                f" {taken[0]}; rename one of them, as in rename: {{{key}: {key}_2}}"
            )
        found = _field(file, ds, key, dims, selected, grib)
        if len(names) > 1:
            text = f"{path}: {key} is {stored.dtype}; stored as {' and '.join(names)}"
            assume("complex_parts", key, text)
        for one, part in names.items():
            if not options.wanted or one in options.wanted:
                reader = found.reader if part is None else ComplexPart(found.reader, part)
                file.fields[one] = replace(found, reader=reader)
    return file


def _coordinates(
    path: Path | Url, ds: xr.Dataset, axes: Mapping[CFAxis, str], dates: DateKind | None
) -> tuple[dict[CFAxis, xr.Variable], bool]:
    """The coordinates by axis, and whether the file has a single time without an axis."""
    found = {axis: read_coordinate(path, dim, ds, axis) for axis, dim in axes.items()}
    moment = scalar_time(ds)
    if is_lead_time(ds, axes.get("time")):
        found["time"] = in_hours(path, found["time"])
        if moment and "trajectory" not in found:  # one forecast: its start names it
            found["trajectory"] = read_coordinate(path, moment, ds, "trajectory")
        say_forecasts(path, found.get("trajectory"), found["time"])
        return found, False
    dated = axes.get("time", moment)
    if dated is not None:
        time = found.get("time")
        time = read_coordinate(path, dated, ds, "time") if time is None else time
        values = valid_dates(path, ds, dated, time.values, dates)
        found["time"] = time if values is time.values else xr.Variable(("time",), values, time.attrs)
    return found, "time" not in axes and moment is not None


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
    return stored.dtype.kind in "iufbc" and {"y", "x"} <= axes and not fixed_levels


def _field(
    file: CFFile,
    ds: xr.Dataset,
    key: str,
    dims: Mapping[str, CFAxis],
    selected: Mapping[str, Selected],
    grib: _GribReaders | None,
) -> CFField:
    stored = ds.variables[key]
    packed = PackedVariable.of(file.path, key, stored).of_field(stored)
    unknown = [
        str(dim)
        for dim, length in zip(stored.dims, stored.shape, strict=True)
        if dim not in dims and dim not in selected and length > 1
    ]
    if unknown:
        raise DataError(f"{packed.name} {_question(ds, unknown, dims)}")
    merged = [str(dim) for dim in stored.dims if dim in selected and not isinstance(selected[str(dim)], int)]
    reader: ArrayReader = packed.checked() if grib is None else grib.of(key, stored)
    for dim in merged:
        one = selected[dim]
        assert not isinstance(one, int)
        reader = one.of(reader, stored.dims.index(dim))
    axes = tuple(_axis(str(dim), dims, selected) for dim in stored.dims if dim not in merged)
    rounding = abs(packed.scale) / 2 if stored.dtype.kind in "iu" and packed.scale != 1 else 0.0
    return CFField(
        reader, key, axes, stored.attrs, file, scalar_coordinates(ds, key, dims, selected), rounding
    )


def _axis(dim: str, dims: Mapping[str, CFAxis], selected: Mapping[str, Selected]) -> CFAxis | int:
    position = selected.get(dim, 0)
    return dims.get(dim, position if isinstance(position, int) else 0)


def _question(ds: xr.Dataset, unknown: Sequence[str], dims: Mapping[str, CFAxis]) -> str:
    """What a field has along dimensions of unknown meaning, and how to say what they are."""
    told = " and ".join(f"{ds.sizes[dim]} values along {dim}" for dim in unknown)
    start = (
        f"has {told}, which {_is(unknown)} neither time, level, y nor x; list the other fields in variables"
    )
    if "expver" in unknown:
        versions = (
            ds["expver"].values.tolist() if "expver" in ds.variables else list(range(ds.sizes["expver"]))
        )
        return (
            f"{start}, or say which versions to read: select: {{expver: {versions}}} takes the first that has a"
            f" value, select: {{expver: {versions[0]}}} only that one"
        )
    proposed = propose_axes(ds, unknown, list(dims.values()))
    rest = [dim for dim in unknown if dim not in proposed.values()]
    words = []
    if proposed:
        listed = ", ".join(f"{axis}: {dim}" for axis, dim in proposed.items())
        words.append(f"say what {' and '.join(proposed.values())} {_is(proposed)}, as in axes: {{{listed}}}")
    if rest:
        chosen = ", ".join(f"{dim}: {_first(ds, dim)}" for dim in rest)
        words.append(f"take one of {' and '.join(rest)}, as in select: {{{chosen}}}")
    return f"{start}, or {' and '.join(words)}"


def _is(several: Sized) -> str:
    return "is" if len(several) == 1 else "are"


def _first(ds: xr.Dataset, dim: str) -> Any:
    return ds.variables[dim].values[0].item() if dim in ds.variables else 0
