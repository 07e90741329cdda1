"""The Well, HDF5 specification v1 (Ohana et al. 2024, arXiv:2412.00568), read and written in 2-D.

A file holds groups of scalars and of scalar, vector and tensor fields (t0, t1, t2). Each array
says by attributes along which of trajectory, time and space it varies, and lacks the other axes.
Boundaries are masks over the coordinates. The specification is docs/data_format.md of
PolymathicAI/the_well; files are read with h5py alone.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Boundary, Grid, Sides
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.glance import Finding, Glance
from pelagos.preprocessing.sources.lazy import Hdf5Dataset, floating, member, open_hdf5, variable
from pelagos.preprocessing.sources.writer import BlockWriter, write_all

_ORDERS = {"scalars": 0, "t0_fields": 0, "t1_fields": 1, "t2_fields": 2}
_KINDS: dict[str, Boundary] = {"periodic": "periodic", "wall": "wall", "open": "open"}
_AXES: tuple[dict[str, str], ...] = ({"y": "y", "x": "x"}, {"y": "z", "x": "x"}, {"y": "theta", "x": "phi"})


@dataclass(frozen=True)
class _Array:
    """One array of a file: its group, the axes it has before any components, and where it is."""

    group: str
    axes: tuple[str, ...]
    part: Hdf5Dataset


@dataclass(frozen=True, eq=False)
class _Contents:
    """What one file says about itself; a side is None where the masks do not give it one kind."""

    path: Path
    dataset: str
    grid_type: str
    num_trajectories: int
    time: NDArray[np.float64]
    coordinates: Mapping[str, NDArray[np.float64]]
    sides: Mapping[str, tuple[Boundary | None, Boundary | None]]
    arrays: Mapping[str, _Array]


class TheWell(Files):
    """Reads files of The Well; several are laid end to end along the trajectories.

    Vectors become variables `name_x`, `name_y`, tensors `name_xx`, ..., after the file's axes. A
    scalar that varies in time becomes a forcing that is uniform in space.

    Attributes:
        kind: "the_well".
        variables: fields to read, all if empty.
        rename: new names by the names that would be used.
        axes: which of the file's axes is y and which x, where their names do not say.
        boundary: beyond the edges, where the masks do not give each side one kind.
    """

    kind: Literal["the_well"] = "the_well"
    variables: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)
    axes: dict[Literal["y", "x"], str] = Field(default_factory=dict)
    boundary: BoundaryOption | None = None

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
            DataError: for 3-D data, times that differ between trajectories, ambiguous axes or
                boundaries, and files that do not fit together.
        """
        files = [_contents(path) for path in self.files()]
        first = files[0]
        for other in files[1:]:
            _compare(first, other)
        own = self._axes(first)
        grid = self._grid(first, own)
        variables = {}
        for own_name, made in _variables(files, {name: axis for axis, name in own.items()}):
            name = self.rename.get(own_name, own_name)
            made.attrs = convention.attrs(name, made.attrs["role"])
            variables[name] = made
        if unknown := set(self.rename.values()) - set(variables):
            listed = ", ".join(variables)
            raise DataError(
                f"rename: nothing becomes {', '.join(sorted(unknown))}; {first.path} has {listed}"
            )
        ds = convention.assemble(
            variables,
            grid=grid,
            time=first.time,
            dataset=self.identifier(first.dataset),
            source_format="the_well",
            sources=self.files(),
            num_trajectories=sum(file.num_trajectories for file in files),
            license=self.license,
            references=self.references,
        )
        return convention.select(ds, self.variables)

    def _axes(self, file: _Contents) -> dict[str, str]:
        """The file's names of y and x."""
        dims = tuple(file.coordinates)
        if len(dims) != 2:
            raise DataError(
                f"{file.path} has {len(dims)} spatial axes ({', '.join(dims)}); only 2-D files are read"
            )
        for choice in [dict(self.axes)] if self.axes else _AXES:
            if set(choice) == {"y", "x"} and set(choice.values()) == set(dims):
                return {str(axis): name for axis, name in choice.items()}
        raise DataError(
            f"{file.path}: which of its axes {', '.join(dims)} is y and which is x? Say"
            f" axes: {{y: {dims[1]}, x: {dims[0]}}} or the other way round"
        )

    def _grid(self, file: _Contents, own: Mapping[str, str]) -> Grid:
        y, x = file.coordinates[own["y"]], file.coordinates[own["x"]]
        if file.grid_type == "cartesian":
            return Grid("cartesian", y, x, self._sides(file, own, "y"), self._sides(file, own, "x"))
        if set(own.values()) != {"theta", "phi"}:
            raise DataError(
                f"{file.path}: a {file.grid_type} grid over {own['y']}, {own['x']}; theta, phi can be read"
            )
        latitude = np.rad2deg(np.pi / 2 - y if y.min() >= 0 else y)
        return Grid("latlon", latitude, np.rad2deg(x), ("pole", "pole"), ("periodic", "periodic"), "degrees")

    def _sides(self, file: _Contents, own: Mapping[str, str], axis: Literal["y", "x"]) -> Sides:
        if self.boundary:
            return self.boundary.y if axis == "y" else self.boundary.x
        low, high = file.sides[own[axis]]
        if low is None or high is None:
            raise DataError(
                f"{file.path}: its boundary_conditions give a side of {own[axis]} several kinds, or one"
                " only in places; say what shall stand for it, as in boundary: {y: wall, x: [open, wall]}"
            )
        return low, high


def _contents(path: Path) -> _Contents:
    with open_hdf5(path) as file:
        dimensions = member(file, "dimensions")
        dims = _words(_attribute(dimensions, "spatial_dims"))
        for name in dims:
            if _is(member(dimensions, name), "sample_varying") or _is(dimensions[name], "time_varying"):
                raise DataError(f"{path}: coordinate {name} is not the same for all trajectories and times")
        return _Contents(
            path=path,
            dataset=_text(file.attrs.get("dataset_name", "")),
            grid_type=_text(file.attrs.get("grid_type", "cartesian")),
            num_trajectories=int(_attribute(file, "n_trajectories")),
            time=_time(path, np.asarray(member(dimensions, "time")[()], np.float64)),
            coordinates={name: np.asarray(dimensions[name][()], np.float64) for name in dims},
            sides=_sides(file, dims),
            arrays=dict(_arrays(file, dims)),
        )


def _attribute(item: Any, name: str) -> Any:
    if name not in item.attrs:
        raise DataError(
            f"{item.file.filename}: '{item.name}' lacks the attribute {name} of The Well's specification"
        )
    return item.attrs[name]


def _is(item: Any, flag: str) -> bool:
    """A boolean attribute; some files store it as text, some leave it out where it is false."""
    return str(item.attrs.get(flag, False)) == "True"


def _words(value: Any) -> tuple[str, ...]:
    """A list of names; some files store it as the text of a NumPy array."""
    if isinstance(value, str | bytes):
        return tuple(re.findall(r"[^\s\[\]'\",]+", _text(value)))
    return tuple(_text(one) for one in value)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _time(path: Path, values: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = np.atleast_2d(values)
    if np.all(rows == rows[0]):
        return np.asarray(rows[0])
    row, frame = np.argwhere(rows != rows[0])[0]
    raise DataError(
        f"{path}: times differ: frame {frame} is at {rows[0, frame]:g} in trajectory 0 and at"
        f" {rows[row, frame]:g} in trajectory {row}; a dataset has one axis of times"
    )


def _sides(file: Any, dims: Sequence[str]) -> dict[str, tuple[Boundary | None, Boundary | None]]:
    """For each axis the kinds of its low and high side, from the masks at both ends."""
    found: dict[tuple[str, int], set[Boundary | None]] = {
        (name, end): set() for name in dims for end in (0, -1)
    }
    for condition in file.get("boundary_conditions", {}).values():
        kind = _KINDS.get(_text(_attribute(condition, "bc_type")).lower())
        axes = _words(_attribute(condition, "associated_dims"))
        varies = _is(condition, "sample_varying") or _is(condition, "time_varying")
        mask = np.asarray(member(condition, "mask")[()], bool)
        if kind == "periodic" and len(axes) == 1:
            mask = np.ones_like(
                mask
            )  # an axis is periodic as a whole; the package's own example marks no point
        for (axis, name), end in product(enumerate(axes), (0, -1)):
            # A side's corners belong to two sides, and a mask of one marks them too.
            side = mask.take(end, axis)[(slice(1, -1),) * (mask.ndim - 1)]
            if varies or np.any(side):
                found[name, end].add(None if varies or not np.all(side) else kind)
    kinds = {where: set(found[where]) or {"unknown"} for where in found}
    one = {where: next(iter(some)) if len(some) == 1 else None for where, some in kinds.items()}
    return {name: (one[name, 0], one[name, -1]) for name in dims}


def _arrays(file: Any, dims: Sequence[str]) -> Iterator[tuple[str, _Array]]:
    for group in _ORDERS:
        for name in _words(file[group].attrs.get("field_names", ())) if group in file else ():
            stored = member(file[group], name)
            axes = ["trajectory"] * _is(stored, "sample_varying") + ["time"] * _is(stored, "time_varying")
            if group != "scalars":
                varying = _attribute(stored, "dim_varying")
                axes += [name for name, varies in zip(dims, varying, strict=True) if varies]
            yield name, _Array(group, tuple(axes), Hdf5Dataset.of(stored))


def _compare(first: _Contents, other: _Contents) -> None:
    """Raise DataError unless two files can be laid end to end along the trajectories."""
    if set(first.coordinates) != set(other.coordinates):
        axes = [", ".join(file.coordinates) for file in (first, other)]
        raise DataError(f"{first.path} has axes {axes[0]} but {other.path} {axes[1]}")
    for name, values in first.coordinates.items():
        convention.agree(name, (first.path, values), (other.path, other.coordinates[name]))
    convention.agree("time", (first.path, first.time), (other.path, other.time))
    held = [{name: array.axes for name, array in file.arrays.items()} for file in (first, other)]
    if differing := sorted(name for name in {**held[0], **held[1]} if held[0].get(name) != held[1].get(name)):
        raise DataError(f"{first.path} and {other.path} differ in the arrays {', '.join(differing)}")
    if first.sides != other.sides:
        raise DataError(
            f"{first.path} and {other.path} differ in their boundary_conditions: make a dataset of each"
        )


def _variables(files: Sequence[_Contents], named: Mapping[str, str]) -> Iterator[tuple[str, xr.Variable]]:
    """The variables of all files, with roles; `named` gives y or x by the file's axis."""
    first = files[0]
    counts = [file.num_trajectories for file in files]
    sizes = {"trajectory": sum(counts), "time": len(first.time)}
    sizes |= {axis: len(first.coordinates[name]) for name, axis in named.items()}
    for key, array in first.arrays.items():
        stored = [file.arrays[key].part for file in files]
        if array.group == "scalars" and "time" not in array.axes:
            yield key, _scalar(stored, counts)
            continue
        repeated = "trajectory" not in array.axes and len(files) == 1
        static = ("y", "x") if repeated else ("trajectory", "y", "x")
        dims = convention.TIME_DIMS if "time" in array.axes else static
        role = "forcing" if array.group == "scalars" else "prognostic" if "time" in array.axes else "static"
        for suffix, position in _components(array, tuple(first.coordinates)):
            layout: list[str | int] = [*(named.get(axis, axis) for axis in array.axes), *position]
            parts = [floating(part) for part in stored]
            yield key + suffix, variable(dims, parts, layout, sizes, {"role": role}, counts=counts)


def _scalar(stored: Sequence[Hdf5Dataset], counts: Sequence[int]) -> xr.Variable:
    values = [np.asarray(part.read((slice(None),) * len(part.shape)), np.float64).ravel() for part in stored]
    if len(values) == 1 and stored[0].shape in ((), (1,)):
        return xr.Variable((), values[0][0], {"role": "scalar"})
    rows = [np.broadcast_to(value, count) for value, count in zip(values, counts, strict=True)]
    return xr.Variable(("trajectory",), np.concatenate(rows), {"role": "scalar"})


def _components(array: _Array, dims: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Suffix and position of each component; tensors have two axes for them or one, row by row."""
    order, count = _ORDERS[array.group], len(dims)
    shape = array.part.shape[len(array.axes) :]
    flat = order == 2 and len(shape) == 1
    if shape != ((count**2,) if flat else (count,) * order):
        raise DataError(
            f"{array.part.name} of {array.group} has shape {array.part.shape}, not"
            f" ({', '.join(array.axes)}) and then {count} components for each of {order} directions"
        )
    for index in product(range(count), repeat=order):
        position = (index[0] * count + index[1],) if flat else index
        yield "_" * bool(order) + "".join(dims[i] for i in index), position


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
