"""The Well, HDF5 specification v1 (Ohana et al. 2024, arXiv:2412.00568), read in 2-D and 3-D, written in 2-D.

A file holds groups of scalars and of scalar, vector and tensor fields (t0, t1, t2). Each array
says by attributes along which of trajectory, time and space it varies, and lacks the other axes.
Boundaries are masks over the coordinates. The specification is docs/data_format.md of
PolymathicAI/the_well; files are read with h5py alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.derived_arrays import lasting
from pelagos.preprocessing.sources.arrays.lazy_array import Hdf5Dataset, floating, variable
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.finding import Finding, Glance
from pelagos.preprocessing.sources.formats import well_file
from pelagos.preprocessing.sources.formats.well_file import Contents
from pelagos.preprocessing.sources.formats.well_time import Clock, clock
from pelagos.preprocessing.sources.writer import BlockWriter, write_all

Axis = Literal["level", "y", "x"]
_AXES: tuple[dict[str, str], ...] = (
    {"y": "y", "x": "x"},
    {"y": "z", "x": "x"},
    {"y": "theta", "x": "phi"},
    {"level": "z", "y": "y", "x": "x"},
    {"level": "r", "y": "theta", "x": "phi"},
)


class TheWell(Files):
    """Reads files of The Well; several are laid end to end along the trajectories.

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
    axes: dict[Axis, str] = Field(default_factory=dict)
    boundary: BoundaryOption | None = None
    dt: PositiveFloat | None = None

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """HDF5 whose root counts trajectories and names its grid."""
        if glance.container != "hdf5" or not {"n_trajectories", "grid_type"} <= set(glance.attrs):
            return None
        fields = [key for key in glance.shapes if key.startswith(("t0_", "t1_", "t2_"))]
        evidence = f"HDF5 with the attributes n_trajectories and grid_type, and {', '.join(fields[:4])}"
        return Finding("the_well", "certain", evidence)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates, scalars and masks, no field.

        Raises:
            ConfigError: no trajectory has the step `dt`.
            DataError: for steps in time that differ between trajectories, ambiguous axes or boundaries,
                and files that do not fit together.
        """
        files = [well_file.contents(path) for path in self.files()]
        first = files[0]
        for other in files[1:]:
            well_file.compare(first, other)
        times = clock(files, self.dt)
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
        if unknown := set(self.rename.values()) - set(variables):
            listed = ", ".join(variables)
            raise DataError(
                f"rename: nothing becomes {', '.join(sorted(unknown))}; {first.path} has {listed}"
            )
        ds = convention.assemble(
            variables,
            grid=grid,
            time=times.axis,
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

    def _axes(self, file: Contents) -> dict[str, str]:
        """The file's names of y and x, and of level in 3-D."""
        dims = tuple(file.coordinates)
        if len(dims) not in (2, 3):
            raise DataError(
                f"{file.path} has {len(dims)} spatial axes ({', '.join(dims)}); 2-D and 3-D files are read"
            )
        wanted = ("level", "y", "x")[-len(dims) :]
        for choice in [dict(self.axes)] if self.axes else _AXES:
            if set(choice) == set(wanted) and set(choice.values()) == set(dims):
                return {str(axis): name for axis, name in choice.items()}
        example = ", ".join(f"{axis}: {name}" for axis, name in zip(wanted, dims[::-1], strict=True))
        raise DataError(
            f"{file.path}: which of its axes {', '.join(dims)} is {' and which is '.join(wanted)}? Say"
            f" axes: {{{example}}} or another way round"
        )

    def _level(self, file: Contents, own: Mapping[str, str]) -> xr.Variable | None:
        if "level" not in own:
            return None
        name = own["level"]
        sides = (self.boundary.third if self.boundary else None) or self._known(file, name)
        return convention.planes(name, file.coordinates[name], sides)

    def _grid(self, file: Contents, own: Mapping[str, str]) -> Grid:
        y, x = file.coordinates[own["y"]], file.coordinates[own["x"]]
        if file.grid_type == "cartesian":
            return Grid("cartesian", y, x, self._sides(file, own, "y"), self._sides(file, own, "x"))
        if {own["y"], own["x"]} != {"theta", "phi"}:
            raise DataError(
                f"{file.path}: a {file.grid_type} grid over {own['y']}, {own['x']}; theta, phi can be read"
            )
        latitude = np.rad2deg(np.pi / 2 - y if y.min() >= 0 else y)
        grid = Grid("latlon", latitude, np.rad2deg(x), ("pole", "pole"), ("periodic", "periodic"), "degrees")
        # A part of a sphere ends where its masks say how.
        if np.any(90 - np.abs(latitude[[0, -1]]) > grid.spacing[0]):
            grid = replace(grid, boundary_y=self._sides(file, own, "y"))
        if np.ptp(grid.x) + 1.5 * grid.spacing[1] < 360:
            grid = replace(grid, boundary_x=self._sides(file, own, "x"))
        return grid

    def _sides(self, file: Contents, own: Mapping[str, str], axis: Literal["y", "x"]) -> Sides:
        if self.boundary:
            return self.boundary.y if axis == "y" else self.boundary.x
        return self._known(file, own[axis])

    def _known(self, file: Contents, name: str) -> Sides:
        low, high = file.sides[name]
        if low is None or high is None:
            third = ", level: open" * (len(file.sides) > 2)
            raise DataError(
                f"{file.path}: its boundary_conditions give a side of {name} several kinds, or one only in"
                f" places; say what shall stand for it, as in boundary: {{y: wall, x: [open, wall]{third}}}"
            )
        return low, high


def _variables(
    files: Sequence[Contents], named: Mapping[str, str], times: Clock
) -> Iterator[tuple[str, xr.Variable]]:
    """The variables of all files by `group/name`, with roles; `named` gives y, x or level by the file's axis."""
    first = files[0]
    counts = [file.num_trajectories for file in files]
    sizes = {"trajectory": sum(counts), "time": len(times.axis)}
    sizes |= {axis: len(first.coordinates[name]) for name, axis in named.items()}
    for path, array in first.arrays.items():
        stored = [file.arrays[path].part for file in files]
        if array.group == "scalars" and "time" not in array.axes:
            yield path, _scalar(stored, counts)
            continue
        role = "forcing" if array.group == "scalars" else "prognostic" if "time" in array.axes else "static"
        axes = tuple(named.get(axis, axis) for axis in array.axes)
        dims = _dims(axes, len(files))
        for suffix, position in well_file.components(array, tuple(first.coordinates)):
            parts = [
                lasting(floating(part), array.axes, file.times.shape[1], len(times.axis))
                for file, part in zip(files, stored, strict=True)
            ]
            made = variable(dims, parts, (*axes, *position), sizes, {"role": role}, counts=counts)
            yield path + suffix, made
    for key, field, shown in well_file.shown(files):
        attrs = {"role": "forcing" if "time" in field.axes else "static", "long_name": field.long_name}
        axes = tuple(named.get(axis, axis) for axis in field.axes)
        parts = [
            lasting(part, axes, file.times.shape[1], len(times.axis))
            for file, part in zip(files, shown, strict=True)
        ]
        made = variable(_dims(axes, len(files)), parts, axes, sizes, attrs, counts=counts)
        yield f"boundary_conditions/{key}", made
    if times.starts is not None:
        yield "dimensions/start_time", xr.Variable(("trajectory",), times.starts, {"role": "scalar"})


def _dims(axes: Sequence[str], num_files: int) -> tuple[str, ...]:
    """Of a variable: what the array lacks of them is repeated, but not along levels."""
    dims = convention.LEVEL_DIMS if "level" in axes else convention.TIME_DIMS
    if "time" in axes:
        return dims
    own = "trajectory" in axes or num_files > 1
    return tuple(dim for dim in dims if dim != "time" and (own or dim != "trajectory"))


def _scalar(stored: Sequence[Hdf5Dataset], counts: Sequence[int]) -> xr.Variable:
    values = [np.asarray(part.read((slice(None),) * len(part.shape)), np.float64).ravel() for part in stored]
    if len(values) == 1 and stored[0].shape in ((), (1,)):
        return xr.Variable((), values[0][0], {"role": "scalar"})
    for part, value, count in zip(stored, values, counts, strict=True):
        if len(value) not in (1, count):
            raise DataError(f"{part.name} has shape {part.shape}; () or (trajectory={count},) would be right")
    rows = [np.broadcast_to(value, count) for value, count in zip(values, counts, strict=True)]
    return xr.Variable(("trajectory",), np.concatenate(rows), {"role": "scalar"})


class Writer(BlockWriter):
    """Writes a file of The Well with axes (x, y).

    `name_x` with `name_y` becomes a vector, all four of `name_xx`, ... a tensor. Coordinates and
    times are stored in float32, as the specification has it. Not held: roles (a time-dependent
    field is read as prognostic), units, trajectory ids, licences. Refused: dates, and grids of
    latitudes and longitudes.
    """

    def _open(self, path: Path) -> Any:
        return h5py.File(path, "w")

    def _create(self) -> None:
        ds = self.template
        if ds.attrs["grid"] != "cartesian" or ds.time.dtype.kind == "M":
            raise DataError(
                f"{self.path}: written are cartesian grids with times in numbers, not dates or latitudes"
            )
        scalars = convention.in_role(ds, "scalar")
        constant = [name for name in scalars if not ds[name].dims]
        self._file.attrs.update(
            dataset_name=ds.attrs["dataset"],
            grid_type="cartesian",
            n_spatial_dims=2,
            n_trajectories=self.num_trajectories,
            simulation_parameters=_texts(constant),
            **{name: float(ds[name]) for name in constant},
        )
        self._write_dimensions()
        self._write_boundaries()
        group = self._file.create_group("scalars")
        group.attrs["field_names"] = _texts(scalars)
        for name in scalars:
            varies = bool(ds[name].dims)
            group.create_dataset(name, (self.num_trajectories,) * varies, "f8")
            group[name].attrs.update(sample_varying=varies, time_varying=False)
            if not varies:
                group[name][()] = float(ds[name])
        self._create_fields()

    def _write_dimensions(self) -> None:
        group = self._file.create_group("dimensions")
        group.attrs["spatial_dims"] = _texts(["x", "y"])
        for name in ("time", "x", "y"):
            group[name] = self.template[name].values.astype(np.float32)
            group[name].attrs["sample_varying"] = False
        for name in ("x", "y"):
            group[name].attrs["time_varying"] = False

    def _write_boundaries(self) -> None:
        group = self._file.create_group("boundary_conditions")
        grid = convention.grid_of(self.template)
        for axis, sides in (("x", grid.boundary_x), ("y", grid.boundary_y)):
            for kind in sorted(set(sides) - {"unknown"}):
                mask = np.zeros(self.template.sizes[axis], bool)
                mask[0], mask[-1] = sides[0] == kind, sides[1] == kind
                condition = group.create_group(f"{axis}_{kind}")
                condition.attrs.update(
                    associated_dims=_texts([axis]),
                    associated_fields=_texts([]),
                    bc_type=kind.upper(),
                    sample_varying=False,
                    time_varying=False,
                )
                condition["mask"] = mask

    def _create_fields(self) -> None:
        ds = self.template
        names = [str(name) for name in ds.data_vars if ds[name].attrs["role"] != "scalar"]
        self.fields = {stem: (order, components) for order, stem, components in _ordered(ds, names)}
        for order in range(3):
            group = self._file.create_group(f"t{order}_fields")
            group.attrs["field_names"] = _texts(
                [stem for stem, (other, _) in self.fields.items() if other == order]
            )
        for stem, (order, components) in self.fields.items():
            dims = ds[components[0]].dims
            sizes = {**ds.sizes, "trajectory": self.num_trajectories}
            shape = tuple(sizes[dim] for dim in (*dims[:-2], "x", "y")) + (2,) * order
            stored = self._file[f"t{order}_fields"].create_dataset(stem, shape, "f4")
            stored.attrs.update(
                dim_varying=[True, True], sample_varying="trajectory" in dims, time_varying="time" in dims
            )
            if order == 2:
                stored.attrs.update(symmetric=False, antisymmetric=False)
            if "trajectory" not in dims:
                stored[...] = _values(ds, components, shape)

    def _put(self, start: int, block: xr.Dataset) -> None:
        rows = slice(start, start + block.sizes["trajectory"])
        for name in convention.in_role(block, "scalar"):
            if block[name].dims:
                self._file["scalars"][name][rows] = block[name].values
        for stem, (order, components) in self.fields.items():
            stored = self._file[f"t{order}_fields"][stem]
            if "trajectory" in block[components[0]].dims:
                stored[rows] = _values(block, components, (-1, *stored.shape[1:]))


def _texts(words: Sequence[str]) -> NDArray[Any]:
    return np.array(list(words), h5py.string_dtype())


def _ordered(ds: xr.Dataset, names: Sequence[str]) -> Iterator[tuple[int, str, list[str]]]:
    """Order, name and components of the scalar, vector and tensor fields that the names make up."""
    left = list(names)
    for order, suffixes in ((2, ("_xx", "_xy", "_yx", "_yy")), (1, ("_x", "_y"))):
        for stem in [name.removesuffix(suffixes[0]) for name in names if name.endswith(suffixes[0])]:
            components = [stem + suffix for suffix in suffixes]
            alike = set(components) <= set(left) and len({ds[one].dims for one in components}) == 1
            if alike and stem not in names:
                yield order, stem, components
                left = [name for name in left if name not in components]
    yield from ((0, name, [name]) for name in left)


def _values(ds: xr.Dataset, components: Sequence[str], shape: tuple[int, ...]) -> NDArray[np.float32]:
    parts = [ds[name].transpose(..., "x", "y").values.astype(np.float32) for name in components]
    return np.stack(parts, axis=-1).reshape(shape)


def write(ds: xr.Dataset, path: str | Path) -> None:
    """Write a dataset in the convention as one file of The Well; see `Writer` for what that can hold."""
    write_all(Writer, ds, path)
