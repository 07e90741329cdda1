"""Join files: what single files hold of a dataset, concatenated along the trajectories.

Formats of plain arrays differ only in keys, axes and coordinates. Each describes its files as `FileContents`;
`join_files` compares these and makes one dataset of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader, as_floating
from pelagos.preprocessing.sources.arrays.common_units import common_units
from pelagos.preprocessing.sources.arrays.complex_parts import PARTS, ComplexPart
from pelagos.preprocessing.sources.arrays.derived_arrays import resized_in_time
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable
from pelagos.preprocessing.sources.convention import Boundaries, FieldRole
from pelagos.preprocessing.sources.file_source import FileSource


@dataclass(frozen=True)
class FileField:
    """A field of one file.

    Attributes:
        role: its role in the convention.
        axes: for each axis of the stored array its name, or the position to select.
        reader: the stored array.
        units: as the file gives them; empty where it does not.
    """

    role: FieldRole
    axes: tuple[str | int, ...]
    reader: ArrayReader
    units: str = ""


@dataclass(frozen=True, eq=False)
class FileContents:
    """What one file, or one group of it, holds.

    Attributes:
        path: for messages.
        num_trajectories: how many it holds.
        coordinates: of time, x and, unless its fields have a single row, y; those of 3-D fields include `level`,
            which is z.
        fields: by name.
        scalars: () or (num_trajectories,) values by name.
    """

    path: Path | Url
    num_trajectories: int
    coordinates: Mapping[str, NDArray[Any]]
    fields: Mapping[str, FileField]
    scalars: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def join_files(
    files: Sequence[FileContents],
    source: FileSource,
    boundary: Boundaries,
    *,
    source_format: str,
    latlon: bool = False,
    units: str = "1",
    time_units: str = "1",
    several_lengths: bool = False,
    license: str = "",  # noqa: A002  # the attribute's name in the convention
    references: str = "",
) -> xr.Dataset:
    """One dataset in the convention that holds the trajectories of all files, in order.

    `license` and `references` count where the configuration gives none. With `several_lengths` the trajectories
    of different files may end at different times.

    Raises:
        DataError: two files differ in fields or coordinates.
    """
    files = [_in_real_parts(file) for file in files]
    first = max(files, key=_num_frames) if several_lengths else files[0]
    for other in files:
        _compare(first, other, several_lengths)
    y = first.coordinates.get("y", np.zeros(1))
    if "y" not in first.coordinates:
        # Nothing varies along a single row, which is the same as wrapping around.
        boundary = Boundaries(y=("periodic", "periodic"), x=boundary.x)
    kind, units = ("latlon", "degrees") if latlon else ("cartesian", units)
    grid = Grid(kind, y, first.coordinates["x"], boundary.y, boundary.x, units)  # type: ignore[arg-type]
    counts = [file.num_trajectories for file in files]
    sizes = {"trajectory": sum(counts), "time": _num_frames(first), "y": len(y), "x": len(grid.x)}
    lengths = np.repeat([_num_frames(file) for file in files], counts)
    level = None
    if "level" in first.coordinates:
        sides = boundary.level_sides or ("unknown", "unknown")
        level = convention.plane_coordinate("z", first.coordinates["level"], sides, units)
        sizes["level"] = len(level)
    variables = {name: _variable(name, files, sizes) for name in first.fields}
    return convention.assemble(
        variables | _scalars(files),
        grid=grid,
        time=first.coordinates["time"],
        time_units=time_units,
        dataset=source.identifier(),
        source_format=source_format,
        sources=source.places(),
        num_trajectories=sizes["trajectory"],
        present=lengths[:, None] > np.arange(sizes["time"]),
        level=level,
        license=source.license or license,
        references=source.references or references,
    )


def _in_real_parts(file: FileContents) -> FileContents:
    """The file with two fields for each one of complex numbers."""
    fields: dict[str, FileField] = {}
    for name, stored in file.fields.items():
        if stored.reader.dtype.kind != "c":
            fields[name] = stored
            continue
        names = {part: f"{name}_{part}" for part in PARTS}
        listed = " and ".join(names.values())
        assume("complex_parts", name, f"{stored.reader.name} is {stored.reader.dtype}; stored as {listed}")
        fields |= {names[part]: replace(stored, reader=ComplexPart(stored.reader, part)) for part in PARTS}
    return replace(file, fields=fields)


def _num_frames(file: FileContents) -> int:
    return len(file.coordinates["time"])


def _compare(first: FileContents, other: FileContents, several_lengths: bool) -> None:
    held = [{name: (one.role, one.axes) for name, one in file.fields.items()} for file in (first, other)]
    if held[0] != held[1]:
        raise DataError(
            f"{first.path} holds {', '.join(held[0])} but {other.path} {', '.join(held[1])}, or in other"
            " axes: make a dataset of each"
        )
    for name in dict.fromkeys((*first.coordinates, *other.coordinates)):
        none: NDArray[Any] = np.zeros(0)
        one, two = (file.coordinates.get(name, none) for file in (first, other))
        # A shorter file ends earlier, but its frames are at the same times.
        if name == "time" and several_lengths:
            one = one[: len(two)]
        convention.require_equal(name, (first.path, one), (other.path, two))


def _variable(name: str, files: Sequence[FileContents], sizes: Mapping[str, int]) -> xr.Variable:
    stored = files[0].fields[name]
    dims: tuple[str, ...] = convention.LEVEL_DIMS if "level" in stored.axes else convention.TIME_DIMS
    if stored.role == "static":
        dims = tuple(dim for dim in dims if dim != "time")
    units, changes = common_units(name, [(file.path, file.fields[name].units) for file in files])
    attrs = convention.attrs(name, stored.role, units=units)
    # Integers become floating-point first: only those can be NaN where a trajectory has ended.
    readers = [
        resized_in_time(
            change.of(as_floating(file.fields[name].reader)), stored.axes, _num_frames(file), sizes["time"]
        )
        for change, file in zip(changes, files, strict=True)
    ]
    counts = [file.num_trajectories for file in files]
    return lazy_variable(dims, readers, stored.axes, sizes, attrs, counts=counts)


def _scalars(files: Sequence[FileContents]) -> dict[str, xr.Variable]:
    """The scalars of all files, NaN for the trajectories of a file that lacks one."""
    scalars = {}
    for name in dict.fromkeys(name for file in files for name in file.scalars):
        attrs = convention.attrs(name, "scalar")
        values = [np.asarray(file.scalars.get(name, np.nan), np.float64) for file in files]
        if len(files) == 1 and values[0].ndim == 0:
            scalars[name] = xr.Variable((), values[0], attrs)
            continue
        rows = [np.broadcast_to(one, file.num_trajectories) for one, file in zip(values, files, strict=True)]
        scalars[name] = xr.Variable(("trajectory",), np.concatenate(rows), attrs)
    return scalars


def periodic_axis(count: int, length: float = 1.0) -> NDArray[np.float64]:
    """The points of a periodic axis, which leaves out its right end: point i of n lies at i * length / n."""
    return np.arange(count, dtype=np.float64) * (length / count)


def shared_coordinate(path: Path | Url, name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """A coordinate that a file repeats for each trajectory, (N, n), as (n,).

    Raises:
        DataError: trajectories differ in it.
    """
    rows = np.atleast_2d(np.asarray(values, np.float64))
    # Rows that differ only by rounding pass `require_equal`.
    for i in np.flatnonzero((rows != rows[0]).any(axis=1)):
        convention.require_equal(name, (f"{path}: trajectory 0", rows[0]), (f"trajectory {i}", rows[i]))
    return np.asarray(rows[0])
