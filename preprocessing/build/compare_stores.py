"""Comparing two stores: whether they have the same content, and where they differ.

Shapes: T times, C channels, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.store.format import SPLITS, UNUSED
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.store.xarray_view import xarray_view
from pelagos.preprocessing.variables import Variable, keys

Common = tuple[NDArray[np.int64], NDArray[np.int64]]
_BLOCK = 8 << 20  # bytes of each store in memory at a time
_LISTED = 3  # places named for each variable
_STATISTICS = ("mean", "std", "minimum", "maximum", "tendency_mean", "tendency_std")


@dataclass
class FieldDifference:
    """How the stored values of one variable differ.

    Attributes:
        variable: key of the variable.
        num_different: number of values that differ, including those that are missing in one store only.
        num_compared: number of values that were compared.
        largest: largest absolute difference.
        where: trajectory, time, row and column of that, or of the first value missing in one store.
        squares: sum of the squared differences.
        num_missing: number of values that are missing in one store only.
        frames: (trajectory, time) of each frame that differs.
    """

    variable: str
    num_different: int = 0
    num_compared: int = 0
    largest: float = 0.0
    where: str = ""
    squares: float = 0.0
    num_missing: int = 0
    frames: list[tuple[str, str]] = field(default_factory=list)

    def add(self, a_HW: NDArray[Any], b_HW: NDArray[Any], tolerance: float, place: tuple[str, str]) -> None:
        """Compare one more frame, at a trajectory and time."""
        a, b = a_HW.astype(np.float64), b_HW.astype(np.float64)
        missing = np.isnan(a) != np.isnan(b)
        # Values that are missing in both stores are equal.
        differences = np.nan_to_num(np.abs(a - b), nan=0.0)
        differ = (differences > tolerance) | missing
        self.num_compared += differ.size
        if not differ.any():
            return
        self.num_different += int(differ.sum())
        self.num_missing += int(missing.sum())
        self.squares += float(np.square(differences).sum())
        self.frames.append(place)
        if differences.max() > self.largest or not self.where:
            y, x = np.unravel_index(
                int((differences if differences.any() else missing).argmax()), differ.shape
            )
            self.largest = float(differences.max())
            self.where = f"trajectory {place[0]}, time {place[1]}, y {y}, x {x}"

    def __str__(self) -> str:
        listed = "; ".join(f"trajectory {i}, time {t}" for i, t in self.frames[:_LISTED])
        more = f"; and {len(self.frames) - _LISTED} more" if len(self.frames) > _LISTED else ""
        missing = f", {self.num_missing} of them missing in one store only" if self.num_missing else ""
        return (
            f"{self.variable}: {self.num_different} of {self.num_compared} values differ{missing}; "
            f"by {self.largest:.6g} at most, at {self.where}; "
            f"root mean square {np.sqrt(self.squares / self.num_compared):.3g}\n"
            f"    in {len(self.frames)} frames: {listed}{more}"
        )


@dataclass(frozen=True)
class Comparison:
    """What differs between two stores.

    Attributes:
        about: differences of variables, grids, axes, splits, scalars and statistics, one a line.
        fields: differences of the values of what both stores have.
        num_values: number of values that were compared.
    """

    about: list[str]
    fields: list[FieldDifference]
    num_values: int

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.about and not self.fields

    def __str__(self) -> str:
        if self.same:
            return f"the same content: {self.num_values} values are equal"
        return "\n".join([*self.about, *map(str, self.fields)])


def compare(first: Path | Url | str, second: Path | Url | str, tolerance: float = 0.0) -> Comparison:
    """Compare the content of two stores, however they are cut into shards and compressed.

    Variables are matched by key, trajectories by identifier and frames by time.

    Args:
        first: path or URL of a store.
        second: path or URL of another.
        tolerance: largest difference that counts as none, in standard deviations of the variable.

    Raises:
        MissingFileError: there is no such store.
        DamagedFileError: a file of either is missing or damaged.
    """
    a, b = open_store(first), open_store(second)
    view, other = xarray_view(a), xarray_view(b)
    about = [*_variables(a, b), *_grids(a, b)]
    members = _matched("trajectory", view["trajectory"].values, other["trajectory"].values, about)
    frames = _matched("time", view["time"].values, other["time"].values, about)
    about += [*_splits(a, b, members, frames), *_scalars(a, b, members)]
    if a.grid.shape != b.grid.shape:
        return Comparison([*about, "the fields are on different grids and were not compared"], [], 0)
    about += _statistics(a, b, tolerance)
    found = list(_fields(a, b, view, members, frames, tolerance))
    return Comparison(
        about, [one for one in found if one.num_different], sum(one.num_compared for one in found)
    )


def _variables(a: Store, b: Store) -> Iterator[str]:
    ours, theirs = ({v.key: v for v in (*s.variables, *s.static_variables)} for s in (a, b))
    for number, only in (("first", ours.keys() - theirs.keys()), ("second", theirs.keys() - ours.keys())):
        if only:
            yield f"variables: only the {number} store has {', '.join(sorted(only))}"
    for key in [key for key in ours if key in theirs]:
        for what in ("role", "describe_values"):
            one, two = (_described(variables[key], what) for variables in (ours, theirs))
            if one != two:
                yield f"variables: {key} is {one} in the first store, {two} in the second"


def _described(variable: Variable, what: str) -> str:
    found = getattr(variable, what)
    return str(found() if callable(found) else found)


def _grids(a: Store, b: Store) -> Iterator[str]:
    if a.grid.kind != b.grid.kind:
        yield f"grid: {a.grid.kind} and {b.grid.kind}"
    for axis in ("y", "x"):
        one, two = getattr(a.grid, axis), getattr(b.grid, axis)
        if len(one) != len(two):
            yield f"grid: {len(one)} and {len(two)} points along {axis}"
        elif (differ := np.flatnonzero(one != two)).size:
            i = int(differ[0])
            yield f"grid: {differ.size} points along {axis} differ, number {i} is {one[i]:g} and {two[i]:g}"
        sides = [",".join(getattr(grid, f"boundary_{axis}")) for grid in (a.grid, b.grid)]
        if sides[0] != sides[1]:
            yield f"grid: beyond the edges along {axis}: {sides[0]} and {sides[1]}"
    # A source need not say what its levels are; then there is nothing to compare.
    if a.level and b.level:
        for name in sorted({*a.level, *b.level}):
            one, two = (store.level.get(name, "not given") for store in (a, b))
            if one != two:
                yield f"levels: {name} is {one} in the first store, {two} in the second"


def _matched(name: str, one: NDArray[Any], two: NDArray[Any], about: list[str]) -> Common:
    """The positions in each store of what both have; adds to `about` what only one has."""
    if one.dtype.kind != two.dtype.kind:
        about.append(f"{name}: {one.dtype} and {two.dtype}")
        return np.empty(0, np.int64), np.empty(0, np.int64)
    for number, only in (("first", np.setdiff1d(one, two)), ("second", np.setdiff1d(two, one))):
        if only.size:
            listed = ", ".join(map(str, only[:_LISTED])) + (", ..." if only.size > _LISTED else "")
            about.append(f"{name}: only the {number} store has {only.size}: {listed}")
    _, ours, theirs = np.intersect1d(one, two, return_indices=True)
    return np.sort(ours), theirs[np.argsort(ours)]


def _splits(a: Store, b: Store, members: Common, frames: Common) -> Iterator[str]:
    one, two = (
        _codes(store)[np.ix_(rows, columns)]
        for store, rows, columns in zip((a, b), members, frames, strict=True)
    )
    # One line for each pair of splits, however many frames moved.
    for first, second in np.unique(np.stack([one, two])[:, one != two], axis=1).T:
        num = int(((one == first) & (two == second)).sum())
        yield f"split: {num} frames are {_split(first)} in the first store, {_split(second)} in the second"


def _codes(store: Store) -> NDArray[np.int8]:
    codes = np.full((store.num_trajectories, store.num_times), UNUSED, np.int8)
    for code, name in enumerate(SPLITS):
        codes[store.splits[name]] = code
    return codes


def _split(code: int) -> str:
    return "unused" if code == UNUSED else SPLITS[code]


def _scalars(a: Store, b: Store, members: Common) -> Iterator[str]:
    if set(a.params) != set(b.params):
        yield f"scalars: {', '.join(a.params) or 'none'} and {', '.join(b.params) or 'none'}"
    for name in [name for name in a.params if name in b.params]:
        one = a.scalar_values[members[0], a.params.index(name)]
        two = b.scalar_values[members[1], b.params.index(name)]
        if num := int((~((one == two) | (np.isnan(one) & np.isnan(two)))).sum()):
            yield f"scalars: {name} differs in {num} trajectories"


def _statistics(a: Store, b: Store, tolerance: float) -> Iterator[str]:
    for prefix, ours, theirs in (
        ("", a.variables, b.variables),
        ("static_", a.static_variables, b.static_variables),
    ):
        for i, j in zip(*_channels(ours, theirs), strict=True):
            different = []
            for name in _STATISTICS[: 4 if prefix else None]:
                one, two = (getattr(s.stats, prefix + name)[k] for s, k in ((a, i), (b, j)))
                allowed = tolerance * getattr(a.stats, f"{prefix}std")[i]
                if abs(one - two) > allowed or np.isnan(one) != np.isnan(two):
                    different.append(f"{name} {one:.9g} and {two:.9g}")
            if different:
                yield f"statistics: {ours[i].key}: {'; '.join(different)}"


def _channels(ours: Sequence[Variable], theirs: Sequence[Variable]) -> tuple[list[int], list[int]]:
    """The positions in each store of the variables that both have."""
    order = keys(theirs)
    found = [(i, order.index(variable.key)) for i, variable in enumerate(ours) if variable.key in order]
    return [i for i, _ in found], [j for _, j in found]


def _fields(
    a: Store, b: Store, view: xr.Dataset, members: Common, frames: Common, tolerance: float
) -> Iterator[FieldDifference]:
    ours, theirs = _channels(a.variables, b.variables)
    found = [FieldDifference(a.variables[i].key) for i in ours]
    names, times = view["trajectory"].values, view["time"].values
    step = max(1, _BLOCK // (4 * prod((max(len(a.variables), len(b.variables)), *a.grid.shape))))
    # Both stores are read in the order of the first one, which need not be the second one's.
    for i, j in zip(*members, strict=True):
        for start in range(0, len(frames[0]), step):
            chosen = tuple(axis[start : start + step] for axis in frames)
            one, two = (
                s.take(int(k), axis.tolist()) for s, k, axis in zip((a, b), (i, j), chosen, strict=True)
            )
            for t, frame in enumerate(chosen[0]):
                for difference, c, d in zip(found, ours, theirs, strict=True):
                    allowed = tolerance * a.stats.std[c]
                    difference.add(one[t, c], two[t, d], allowed, (str(names[i]), str(times[frame])))
    yield from found
    ours, theirs = _channels(a.static_variables, b.static_variables)
    found = [FieldDifference(a.static_variables[i].key) for i in ours]
    for i, j in zip(*members, strict=True):
        one, two = a.static(i), b.static(j)
        for difference, c, d in zip(found, ours, theirs, strict=True):
            difference.add(one[c], two[d], tolerance * a.stats.static_std[c], (str(names[i]), "any"))
    yield from found
