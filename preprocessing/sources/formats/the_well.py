"""The Well, HDF5 specification v1 (Ohana et al. 2024, arXiv:2412.00568), in 2-D and 3-D.

A file holds groups of scalars and of scalar, vector and tensor fields (t0, t1, t2). Attributes of each array say along
which of trajectory, time and space it varies; the other axes are left out. Boundaries are masks over the coordinates.
The specification is docs/data_format.md of PolymathicAI/the_well; its own `to_xarray` (the-well 1.2.0) closes the file
before dask reads it, so files are read with h5py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field, PositiveFloat

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.array_reader import as_floating
from pelagos.preprocessing.sources.arrays.derived_arrays import resized_in_time
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats import well_file
from pelagos.preprocessing.sources.formats.well_file import WellFile
from pelagos.preprocessing.sources.formats.well_time import TimeAxis, time_axis

_Axis = Literal["level", "y", "x"]
_AXES: tuple[dict[str, str], ...] = (
    {"y": "y", "x": "x"},
    {"y": "z", "x": "x"},
    {"y": "theta", "x": "phi"},
    {"level": "z", "y": "y", "x": "x"},
    {"level": "r", "y": "theta", "x": "phi"},
)


class TheWell(FileSource):
    """Reads files of The Well; several are concatenated along the trajectories.

    Vectors become variables `name_x`, `name_y`, tensors `name_xx`, ..., after the file's axes. A
    scalar that varies in time becomes a forcing that is uniform in space. Where trajectories start
    at different times, time counts from each one's start, which is the scalar `start_time`; files may last
    for different times. A boundary
    condition becomes the kind of the sides that it marks; one that marks other points, or has values
    there, also the fields `NAME_mask` and `NAME_values`, static ones or forcings. In 3-D the third
    axis is `level`: z, or the radius.

    Attributes:
        kind: "the_well".
        variables: fields to read, all if empty.
        rename: new names by the names that would be used, where two would be the same by `group/name`.
        axes: which of the file's axes is y and which x (and which level), where their names do not say.
        boundary: beyond the edges, where the masks do not give each side one kind.
        dt: of trajectories whose steps in time differ, those with this one are read.
    """

    kind: Literal["the_well"] = "the_well"
    variables: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    axes: dict[_Axis, str] = Field(default_factory=dict)
    boundary: BoundaryOption | None = None
    dt: PositiveFloat | None = None

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """HDF5 whose root has the attributes of The Well."""
        if listing.container != "hdf5" or not {"n_trajectories", "grid_type"} <= set(listing.attrs):
            return None
        fields = [key for key in listing.shapes if key.startswith(("t0_", "t1_", "t2_"))]
        evidence = f"HDF5 with the attributes n_trajectories and grid_type, and {', '.join(fields[:4])}"
        return Finding("the_well", "certain", evidence)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates, scalars and masks, no field.

        Raises:
            ConfigError: no trajectory has the step `dt`.
            DataError: for steps in time that differ between trajectories, ambiguous axes or boundaries, and files
                that cannot be joined.
        """
        files = [well_file.read(path) for path in self.files()]
        first = files[0]
        for other in files[1:]:
            well_file.compare(first, other)
        times = time_axis(files, self.dt)
        own = self._axes(first)
        grid = self._grid(first, own)
        variables = {}
        for place, made in _variables(files, {name: axis for axis, name in own.items()}, times):
            own_name = place.split("/", 1)[1]
            name = self.rename.get(place, self.rename.get(own_name, own_name))
            if name in variables:
                raise DataError(
                    f"{first.path}: two arrays would be {name}; rename one of them, as in"
                    f" rename: {{{place}: {name}_2}}"
                )
            made.attrs = convention.attrs(name, **made.attrs)
            variables[name] = made
        # A typing error in `rename` would otherwise go unnoticed.
        if unknown := set(self.rename.values()) - set(variables):
            listed = ", ".join(variables)
            raise DataError(
                f"rename: nothing becomes {', '.join(sorted(unknown))}; {first.path} has {listed}"
            )
        ds = convention.assemble(
            variables,
            grid=grid,
            time=times.values,
            present=times.present,
            dataset=self.identifier(first.dataset),
            source_format="the_well",
            sources=self.files(),
            num_trajectories=sum(file.num_trajectories for file in files),
            level=self._level(first, own),
            license=self.license,
            references=self.references,
        )
        return convention.select(ds if times.taken.all() else ds.isel(trajectory=times.taken), self.variables)

    def _axes(self, file: WellFile) -> dict[str, str]:
        """The file's own names of y and x, and of level in 3-D."""
        dims = tuple(file.coordinates)
        if len(dims) not in (2, 3):
            raise DataError(
                f"{file.path} has {len(dims)} spatial axes ({', '.join(dims)}); only 2-D and 3-D files are read"
            )
        wanted = ("level", "y", "x")[-len(dims) :]
        for choice in [dict(self.axes)] if self.axes else _AXES:
            if set(choice) == set(wanted) and set(choice.values()) == set(dims):
                return {str(axis): name for axis, name in choice.items()}
        example = ", ".join(f"{axis}: {name}" for axis, name in zip(wanted, dims[::-1], strict=True))
        raise DataError(
            f"{file.path}: which of its axes {', '.join(dims)} is {' and which is '.join(wanted)}? Set"
            f" axes: {{{example}}} or another way round"
        )

    def _level(self, file: WellFile, own: Mapping[str, str]) -> xr.Variable | None:
        if "level" not in own:
            return None
        name = own["level"]
        sides = (self.boundary.level_sides if self.boundary else None) or self._known(file, name)
        return convention.plane_coordinate(name, file.coordinates[name], sides)

    def _grid(self, file: WellFile, own: Mapping[str, str]) -> Grid:
        y, x = file.coordinates[own["y"]], file.coordinates[own["x"]]
        if file.grid_type == "cartesian":
            return Grid("cartesian", y, x, self._sides(file, own, "y"), self._sides(file, own, "x"))
        if {own["y"], own["x"]} != {"theta", "phi"}:
            raise DataError(
                f"{file.path}: a {file.grid_type} grid over {own['y']}, {own['x']}; theta, phi can be read"
            )
        # Most files store colatitudes, from 0 to pi, some latitudes.
        latitude = np.rad2deg(np.pi / 2 - y if y.min() >= 0 else y)
        grid = Grid("latlon", latitude, np.rad2deg(x), ("pole", "pole"), ("periodic", "periodic"), "degrees")
        # A sector of a sphere has edges, and masks that say what lies beyond them.
        if np.any(90 - np.abs(latitude[[0, -1]]) > grid.spacing[0]):
            grid = replace(grid, boundary_y=self._sides(file, own, "y"))
        if np.ptp(grid.x) + 1.5 * grid.spacing[1] < 360:
            grid = replace(grid, boundary_x=self._sides(file, own, "x"))
        return grid

    def _sides(self, file: WellFile, own: Mapping[str, str], axis: Literal["y", "x"]) -> Sides:
        if self.boundary:
            return self.boundary.y if axis == "y" else self.boundary.x
        return self._known(file, own[axis])

    def _known(self, file: WellFile, name: str) -> Sides:
        low, high = file.sides[name]
        if low is None or high is None:
            third = ", level: open" * (len(file.sides) > 2)
            raise DataError(
                f"{file.path}: its boundary_conditions give a side of {name} several kinds, or one kind only"
                f" in places; choose one for each side, as in boundary: {{y: wall, x: [open, wall]{third}}}"
            )
        return low, high


def _variables(
    files: Sequence[WellFile], named: Mapping[str, str], times: TimeAxis
) -> Iterator[tuple[str, xr.Variable]]:
    """The variables of all files by `group/name`, with roles; `named` gives y, x or level for each axis of the file."""
    first = files[0]
    counts = [file.num_trajectories for file in files]
    sizes = {"trajectory": sum(counts), "time": len(times.values)}
    sizes |= {axis: len(first.coordinates[name]) for name, axis in named.items()}
    for path, array in first.arrays.items():
        stored = [file.arrays[path].reader for file in files]
        if array.group == "scalars" and "time" not in array.axes:
            yield path, _scalar(stored, counts)
            continue
        role = "forcing" if array.group == "scalars" else "prognostic" if "time" in array.axes else "static"
        axes = tuple(named.get(axis, axis) for axis in array.axes)
        dims = _dims(axes, len(files))
        for suffix, position in well_file.components(array, tuple(first.coordinates)):
            readers = [
                resized_in_time(as_floating(reader), array.axes, file.times.shape[1], len(times.values))
                for file, reader in zip(files, stored, strict=True)
            ]
            made = lazy_variable(dims, readers, (*axes, *position), sizes, {"role": role}, counts=counts)
            yield path + suffix, made
    for key, field, shown in well_file.condition_fields(files):
        attrs = {"role": "forcing" if "time" in field.axes else "static", "long_name": field.long_name}
        axes = tuple(named.get(axis, axis) for axis in field.axes)
        readers = [
            resized_in_time(reader, axes, file.times.shape[1], len(times.values))
            for file, reader in zip(files, shown, strict=True)
        ]
        made = lazy_variable(_dims(axes, len(files)), readers, axes, sizes, attrs, counts=counts)
        yield f"boundary_conditions/{key}", made
    if times.starts is not None:
        yield "dimensions/start_time", xr.Variable(("trajectory",), times.starts, {"role": "scalar"})


def _dims(axes: Sequence[str], num_files: int) -> tuple[str, ...]:
    """The dims of a variable: along those that the array lacks it is repeated, except along levels."""
    dims = convention.LEVEL_DIMS if "level" in axes else convention.TIME_DIMS
    if "time" in axes:
        return dims
    own = "trajectory" in axes or num_files > 1
    return tuple(dim for dim in dims if dim != "time" and (own or dim != "trajectory"))


def _scalar(stored: Sequence[Hdf5Dataset], counts: Sequence[int]) -> xr.Variable:
    values = [
        np.asarray(reader.read((slice(None),) * len(reader.shape)), np.float64).ravel() for reader in stored
    ]
    # A single file's constant stays one number; in several files it may differ between them.
    if len(values) == 1 and stored[0].shape in ((), (1,)):
        return xr.Variable((), values[0][0], {"role": "scalar"})
    for reader, value, count in zip(stored, values, counts, strict=True):
        if len(value) not in (1, count):
            raise DataError(
                f"{reader.name} has shape {reader.shape}; () or (trajectory={count},) would be right"
            )
    rows = [np.broadcast_to(value, count) for value, count in zip(values, counts, strict=True)]
    return xr.Variable(("trajectory",), np.concatenate(rows), {"role": "scalar"})
