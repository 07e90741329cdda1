"""Pieces: what single files hold of a dataset, laid end to end along the trajectories.

Formats that keep plain arrays differ in keys, axes and coordinates alone: each describes its files
as pieces, and `join` compares these and makes the dataset of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.location import Url
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.derived_arrays import lasting
from pelagos.preprocessing.sources.arrays.lazy_array import Part, floating, variable
from pelagos.preprocessing.sources.convention import Boundaries, FieldRole
from pelagos.preprocessing.sources.files import Files


@dataclass(frozen=True)
class Stored:
    """A field of one file: its role, its axes in order (a position where one is selected), the array."""

    role: FieldRole
    layout: tuple[str | int, ...]
    part: Part
    units: str = ""


@dataclass(frozen=True, eq=False)
class Piece:
    """What one file holds.

    Attributes:
        path: for messages.
        count: its number of trajectories.
        coordinates: of time, y and x; one without y holds fields with a single row, one with level 3-D
            ones, of which it is z.
        fields: by name.
        scalars: () or (count,) values by name.
    """

    path: Path | Url
    count: int
    coordinates: Mapping[str, NDArray[Any]]
    fields: Mapping[str, Stored]
    scalars: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def join(
    pieces: Sequence[Piece],
    source: Files,
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
    """The dataset of all pieces, in the convention; `license` and `references` where the user gives none.

    Where `several_lengths` is true, they may end at different times.

    Raises:
        DataError: two pieces differ in fields or coordinates.
    """
    first = max(pieces, key=_frames) if several_lengths else pieces[0]
    for other in pieces:
        _compare(first, other, several_lengths)
    y = first.coordinates.get("y", np.zeros(1))
    if "y" not in first.coordinates:
        # Nothing varies along a single row, which is the same as wrapping around.
        boundary = Boundaries(y=("periodic", "periodic"), x=boundary.x)
    kind, units = ("latlon", "degrees") if latlon else ("cartesian", units)
    grid = Grid(kind, y, first.coordinates["x"], boundary.y, boundary.x, units)  # type: ignore[arg-type]
    sizes = {"trajectory": sum(piece.count for piece in pieces), "time": _frames(first)}
    sizes |= {"y": len(y), "x": len(grid.x)}
    lengths = np.repeat([_frames(piece) for piece in pieces], [piece.count for piece in pieces])
    level = None
    if "level" in first.coordinates:
        third = boundary.third or ("unknown", "unknown")
        level = convention.planes("z", first.coordinates["level"], third, units)
        sizes["level"] = len(level)
    variables = {name: _variable(name, pieces, sizes) for name in first.fields}
    return convention.assemble(
        variables | _scalars(pieces),
        grid=grid,
        time=first.coordinates["time"],
        time_units=time_units,
        dataset=source.identifier(),
        source_format=source_format,
        sources=source.places(),
        num_trajectories=sizes["trajectory"],
        present=lengths[:, None] > np.arange(_frames(first)),
        level=level,
        license=source.license or license,
        references=source.references or references,
    )


def _frames(piece: Piece) -> int:
    return len(piece.coordinates["time"])


def _compare(first: Piece, other: Piece, several_lengths: bool) -> None:
    held = [{name: (one.role, one.layout) for name, one in piece.fields.items()} for piece in (first, other)]
    if held[0] != held[1]:
        raise DataError(
            f"{first.path} holds {', '.join(held[0])} but {other.path} {', '.join(held[1])}, or in other"
            " axes: make a dataset of each"
        )
    for name in dict.fromkeys((*first.coordinates, *other.coordinates)):
        none: NDArray[Any] = np.zeros(0)
        one, two = (piece.coordinates.get(name, none) for piece in (first, other))
        if name == "time" and several_lengths:
            one = one[: len(two)]
        convention.agree(name, (first.path, one), (other.path, two))


def _variable(name: str, pieces: Sequence[Piece], sizes: Mapping[str, int]) -> xr.Variable:
    stored = pieces[0].fields[name]
    dims: tuple[str, ...] = convention.LEVEL_DIMS if "level" in stored.layout else convention.TIME_DIMS
    if stored.role == "static":
        dims = tuple(dim for dim in dims if dim != "time")
    attrs = convention.attrs(name, stored.role, units=stored.units)
    parts = [
        lasting(floating(piece.fields[name].part), stored.layout, _frames(piece), sizes["time"])
        for piece in pieces
    ]
    counts = [piece.count for piece in pieces]
    return variable(dims, parts, stored.layout, sizes, attrs, counts=counts)


def _scalars(pieces: Sequence[Piece]) -> dict[str, xr.Variable]:
    """Scalars of all pieces, NaN where a piece does not have one."""
    scalars = {}
    for name in dict.fromkeys(name for piece in pieces for name in piece.scalars):
        attrs = convention.attrs(name, "scalar")
        values = [np.asarray(piece.scalars.get(name, np.nan), np.float64) for piece in pieces]
        if len(pieces) == 1 and values[0].ndim == 0:
            scalars[name] = xr.Variable((), values[0], attrs)
            continue
        rows = [np.broadcast_to(one, piece.count) for one, piece in zip(values, pieces, strict=True)]
        scalars[name] = xr.Variable(("trajectory",), np.concatenate(rows), attrs)
    return scalars


def even(count: int, length: float = 1.0) -> NDArray[np.float64]:
    """The points of a periodic axis: point i of n lies at i * length / n."""
    return np.arange(count, dtype=np.float64) * (length / count)


def one_row(path: Path | Url, name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """A coordinate that a file repeats for each trajectory, (N, n), as (n,).

    Raises:
        DataError: trajectories differ in it.
    """
    rows = np.atleast_2d(np.asarray(values, np.float64))
    for i in np.flatnonzero((rows != rows[0]).any(axis=1)):
        convention.agree(name, (f"{path}: trajectory 0", rows[0]), (f"trajectory {i}", rows[i]))
    return np.asarray(rows[0])
