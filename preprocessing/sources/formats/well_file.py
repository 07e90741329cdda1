"""One file of The Well: what it holds, by its groups and attributes.

Attributes of each array say along which of trajectory, time and space it varies; the other axes are left out.
Boundaries are masks over the coordinates.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Boundary
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, member, open_hdf5, whole
from pelagos.preprocessing.sources.arrays.hdf5_left_out import say_unread
from pelagos.preprocessing.sources.formats.well_boundary import (
    BoundaryCondition,
    ConditionField,
    Side,
    ZeroArray,
    read_condition,
)

_ORDERS = {"scalars": 0, "t0_fields": 0, "t1_fields": 1, "t2_fields": 2}


@dataclass(frozen=True)
class WellArray:
    """One array of a file: its group, the axes it has before any components, and its reader."""

    group: str
    axes: tuple[str, ...]
    reader: Hdf5Dataset


@dataclass(frozen=True, eq=False)
class WellFile:
    """What one file holds.

    Attributes:
        path: of the file.
        dataset: the name that it gives its dataset.
        grid_type: `cartesian`, or a word for a grid on the sphere.
        num_trajectories: how many it holds.
        times: (N, T) times of each trajectory, or (1, T) of all.
        rounding: how much the type they are stored in may have rounded the times.
        coordinates: by the names of the axes, in the order of the arrays' axes.
        sides: what lies beyond the low and the high side of each axis; None where the masks do not say one kind.
        conditions: boundary conditions by name.
        arrays: by `group/name`.
    """

    path: Path
    dataset: str
    grid_type: str
    num_trajectories: int
    times: NDArray[np.float64]
    rounding: float
    coordinates: Mapping[str, NDArray[np.float64]]
    sides: Mapping[str, tuple[Boundary | None, Boundary | None]]
    conditions: Mapping[str, BoundaryCondition]
    arrays: Mapping[str, WellArray]


def read(path: Path) -> WellFile:
    """What a file holds; reads coordinates and masks, no field.

    Raises:
        DataError: the file does not follow the specification, or its grid moves.
    """
    with open_hdf5(path) as file:
        dimensions = member(file, "dimensions")
        dims = _words(_attribute(dimensions, "spatial_dims"))
        # A store has one grid, so a moving one cannot be held.
        for name in dims:
            if _is(member(dimensions, name), "sample_varying") or _is(dimensions[name], "time_varying"):
                raise DataError(f"{path}: coordinate {name} is not the same for all trajectories and times")
        coordinates = {name: np.asarray(whole(dimensions[name]), np.float64) for name in dims}
        conditions = dict(_conditions(file, {name: len(values) for name, values in coordinates.items()}))
        num = int(_attribute(file, "n_trajectories"))
        arrays = dict(_arrays(file, dims))
        say_unread(file, arrays, ("dimensions", "boundary_conditions"))
        times, rounding = _times(member(dimensions, "time"), num)
        return WellFile(
            path=path,
            dataset=_text(file.attrs.get("dataset_name", "")),
            grid_type=_text(file.attrs.get("grid_type", "cartesian")),
            num_trajectories=num,
            times=times,
            rounding=rounding,
            coordinates=coordinates,
            sides=_sides(conditions, dims),
            conditions=conditions,
            arrays=arrays,
        )


def _times(stored: Any, num: int) -> tuple[NDArray[np.float64], float]:
    times = np.atleast_2d(np.asarray(whole(stored), np.float64))
    if times.ndim != 2 or len(times) not in (1, num) or not times.size:
        raise DataError(
            f"{stored.file.filename}: {stored.name} has shape {stored.shape}; (time,) or (trajectory={num}, time)"
            " would be right"
        )
    if not np.isfinite(times).all():
        raise DataError(f"{stored.file.filename}: {stored.name} has times that are not finite")
    # Trajectories may start at different times, each with its own rounding.
    rows = np.stack([convention.even_times(row, stored.dtype) for row in times])
    return rows, convention.rounding(times, stored.dtype)


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


def _conditions(file: Any, lengths: Mapping[str, int]) -> Iterator[tuple[str, BoundaryCondition]]:
    for name, group in file.get("boundary_conditions", {}).items():
        axes, fields = (
            _words(value)
            for value in (_attribute(group, "associated_dims"), group.attrs.get("associated_fields", ()))
        )
        if unknown := set(axes) - set(lengths):
            raise DataError(
                f"{file.filename}: {group.name} is associated with {min(unknown)}; axes are {', '.join(lengths)}"
            )
        member(group, "mask")
        sizes = {axis: lengths[axis] for axis in axes}
        yield name, read_condition(group, _text(_attribute(group, "bc_type")), sizes, _varying(group), fields)


def _sides(
    conditions: Mapping[str, BoundaryCondition], dims: Sequence[str]
) -> dict[str, tuple[Boundary | None, Boundary | None]]:
    """The kinds of the low and the high side of each axis; None where conditions differ or cover a side in part."""
    found: dict[Side, set[Boundary | None]] = {side: set() for side in product(dims, (0, -1))}
    for one in conditions.values():
        for side, kind in one.sides.items():
            found[side].add(kind)
    kinds = {side: some or {"unknown"} for side, some in found.items()}
    single = {side: next(iter(some)) if len(some) == 1 else None for side, some in kinds.items()}
    return {name: (single[name, 0], single[name, -1]) for name in dims}


def _varying(item: Any) -> list[str]:
    return ["trajectory"] * _is(item, "sample_varying") + ["time"] * _is(item, "time_varying")


def _arrays(file: Any, dims: Sequence[str]) -> Iterator[tuple[str, WellArray]]:
    for group in _ORDERS:
        for name in _words(file[group].attrs.get("field_names", ())) if group in file else ():
            stored = member(file[group], name)
            axes = _varying(stored)
            if group != "scalars":
                varying = _attribute(stored, "dim_varying")
                if len(varying) != len(dims):
                    raise DataError(
                        f"{file.filename}: {stored.name} has {len(varying)} flags dim_varying; one for each of"
                        f" {', '.join(dims)} would be right"
                    )
                axes += [name for name, varies in zip(dims, varying, strict=True) if varies]
            yield f"{group}/{name}", WellArray(group, tuple(axes), Hdf5Dataset.of(stored))


def compare(first: WellFile, other: WellFile) -> None:
    """Raise DataError unless two files can be joined along the trajectories."""
    if set(first.coordinates) != set(other.coordinates):
        axes = [", ".join(file.coordinates) for file in (first, other)]
        raise DataError(f"{first.path} has axes {axes[0]} but {other.path} {axes[1]}")
    for name, values in first.coordinates.items():
        convention.require_equal(name, (first.path, values), (other.path, other.coordinates[name]))
    held = [{name: array.axes for name, array in file.arrays.items()} for file in (first, other)]
    if differing := sorted(name for name in {**held[0], **held[1]} if held[0].get(name) != held[1].get(name)):
        raise DataError(f"{first.path} and {other.path} differ in the arrays {', '.join(differing)}")
    if first.sides != other.sides:
        raise DataError(
            f"{first.path} and {other.path} differ in their boundary_conditions: make a dataset of each"
        )


def components(array: WellArray, dims: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Suffix and position of each component; tensors have two axes for them, or one that runs row by row."""
    order, count = _ORDERS[array.group], len(dims)
    shape = array.reader.shape[len(array.axes) :]
    # Some files store the components of tensors along one axis, against the specification.
    flat = order == 2 and len(shape) == 1
    if shape != ((count**2,) if flat else (count,) * order):
        raise DataError(
            f"{array.reader.name} of {array.group} has shape {array.reader.shape}, not"
            f" ({', '.join(array.axes)}) and then {count} components for each of {order} directions"
        )
    for index in product(range(count), repeat=order):
        position = (index[0] * count + index[1],) if flat else index
        yield "_" * bool(order) + "".join(dims[i] for i in index), position


def condition_fields(files: Sequence[WellFile]) -> Iterator[tuple[str, ConditionField, list[ArrayReader]]]:
    """The fields of boundary conditions that are more than kinds of sides, with their values in each file.

    Raises:
        DataError: two files have the same condition over different axes.
    """
    for name in sorted({name for file in files for name, one in file.conditions.items() if one.has_fields}):
        held = [file.conditions[name].fields if name in file.conditions else {} for file in files]
        for key, field in {key: field for fields in held for key, field in fields.items()}.items():
            own = [fields.get(key) or _nothing(file, field) for file, fields in zip(files, held, strict=True)]
            if different := next((one for one in own if one.axes != field.axes), None):
                raise DataError(
                    f"{field.reader.name} varies along {', '.join(field.axes)}, but {different.reader.name} along"
                    f" {', '.join(different.axes)}: make a dataset of each"
                )
            yield key, field, [one.reader for one in own]


def _nothing(file: WellFile, field: ConditionField) -> ConditionField:
    """The field of a condition that this file does not have: zeros."""
    lengths = {"trajectory": file.num_trajectories, "time": file.times.shape[1]}
    lengths |= {name: len(values) for name, values in file.coordinates.items()}
    reader = ZeroArray(
        tuple(lengths[axis] for axis in field.axes), field.reader.dtype, f"{file.path}: nothing"
    )
    return replace(field, reader=reader)
