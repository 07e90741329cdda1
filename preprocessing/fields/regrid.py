"""Regridding, conservative or by interpolation, skipping missing values.

Between rectilinear grids a method is the product of one matrix for rows and one for columns. On latitudes lengths are
measured by the sine of latitude, which makes areas products of lengths. Cells anywhere on the sphere (see
`regrid_cells.py`) become latitudes and longitudes by one sparse matrix.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from scipy.sparse import csr_array

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid

Method = Literal["conservative", "bilinear", "linear", "nearest"]
_NOTHING = 1e-9  # share of a cell below which an overlap is rounding


class EvenAxis(Config):
    """Evenly spaced points: start, start + step, start + 2 step and so on, `num` in all.

    Attributes:
        start: the first point.
        step: from one point to the next; negative for falling ones.
        num: how many points there are.
    """

    start: float
    step: float
    num: PositiveInt


Points = Annotated[tuple[float, ...], Field(min_length=1)] | EvenAxis


class Regrid(Config):
    """Another grid for all fields, given by a number of cells in the same domain or by its points.

    Attributes:
        method: `conservative` averages over what each new cell covers, which keeps area integrals; `bilinear`
            interpolates between the four points around each new one, which keeps straight lines. Of points in no
            rows, `linear` interpolates between the three around each new one, and `nearest` takes the nearest.
        shape: numbers of rows and columns of equal cells that fill the domain of the source.
        y: the points along y instead, as `[...]` or `{start, step, num}`.
        x: the points along x, in the same form; longitudes may be counted from any meridian.
        to: `latlon` moves a projected or rotated grid to latitudes and longitudes; by default its own rows and
            columns are kept.
        coverage: a new cell is missing unless more than this share of it has values.
    """

    method: Method = "conservative"
    shape: tuple[PositiveInt, PositiveInt] | None = None
    y: Points | None = None
    x: Points | None = None
    to: Literal["latlon"] | None = None
    coverage: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_target(self) -> "Regrid":
        given = (self.shape is not None, self.y is not None, self.x is not None)
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("give either shape, or both y and x")
        return self

    def build(self, source: Grid) -> "Regridder":
        """The map from one grid to the other.

        Raises:
            ConfigError: a point lies outside the domain of the source, or the method is one for points in no rows.
        """
        if self.method in ("linear", "nearest"):
            raise ConfigError(
                f"regrid.method: {self.method} is for points in no rows; this grid has rows and columns, for which"
                " conservative and bilinear are right"
            )
        edges = source.edges
        if self.shape is not None:
            y, x = (middles(e, num) for e, num in zip(edges, self.shape, strict=True))
        else:
            y, x = points_of(self.y), points_of(self.x)
        target = source.with_axes(y, x)
        weights = _conservative if self.method == "conservative" else _bilinear
        for axis, points, sides in zip("yx", (y, x), edges, strict=True):
            _check_inside(axis, points, sides, _period(source, axis))
        rows, columns = (csr_array(weights(source, target, axis)) for axis in "yx")
        return Regridder(target, rows, columns, self.coverage)


@dataclass(frozen=True, eq=False)
class Regridder:
    """A linear map of frames to another grid, averaging over the values that are not NaN.

    Attributes:
        grid: the grid (H', W') of the results.
        rows: (H', H) sparse weights of rows.
        columns: (W', W) sparse weights of columns.
        coverage: a result is missing unless more than this share of its weight has values.
    """

    grid: Grid
    rows: Any
    columns: Any
    coverage: float

    def __call__(self, values: NDArray[Any]) -> Floats:
        """One frame (H, W) to (H', W')."""
        frame = values.astype(np.float64)
        known = ~np.isnan(frame)
        weight = self._sum(known.astype(np.float64))
        whole = np.outer(self.rows.sum(axis=1), self.columns.sum(axis=1))
        result = np.full(self.grid.shape, np.nan)
        enough = weight > max(self.coverage, _NOTHING) * whole
        np.divide(self._sum(np.where(known, frame, 0)), weight, out=result, where=enough)
        return result

    def _sum(self, frame: Floats) -> Floats:
        # Sparse products sum in a fixed order; BLAS would make the bytes depend on the number of threads.
        return np.asarray((self.columns @ (self.rows @ frame).T).T)


def middles(edges: Floats, num: int) -> Floats:
    """The middles of `num` equal cells between the outermost edges."""
    sides = np.linspace(edges[0], edges[-1], num + 1)
    return np.asarray((sides[1:] + sides[:-1]) / 2)


def points_of(points: tuple[float, ...] | EvenAxis | None) -> Floats:
    """The points of an axis that is given."""
    assert points is not None
    if isinstance(points, EvenAxis):
        return points.start + points.step * np.arange(points.num, dtype=np.float64)
    return np.array(points)


def _period(grid: Grid, axis: str) -> float | None:
    """The distance after which an axis repeats; None if it does not."""
    if grid.kind == "latlon":
        return 360.0 if axis == "x" else None
    number = "yx".index(axis)
    return float(np.ptp(grid.edges[number])) if grid.periodic[number] else None


def _check_inside(axis: str, points: Floats, edges: Floats, period: float | None) -> None:
    low, high = edges.min(), edges.max()
    slack = 1e-6 * (high - low)  # edges are computed, and coordinates may be in float32
    from_low = points - low + slack
    if period is not None:
        from_low = from_low % period
    outside = (from_low < 0) | (from_low > high - low + 2 * slack)
    if outside.any():
        raise ConfigError(
            f"regrid.{axis}: {points[outside][0]:g} lies outside the source, "
            f"whose cells reach from {low:g} to {high:g}"
        )


def _conservative(source: Grid, target: Grid, axis: str) -> Floats:
    """(targets, sources) the length of the overlap of each pair of cells."""
    number, period = "yx".index(axis), _period(source, axis)
    old, new = source.edges[number], target.edges[number]
    if source.kind == "latlon" and axis == "y":
        # The area between two latitudes is the difference of their sines.
        old, new = np.sin(np.deg2rad(old)), np.sin(np.deg2rad(new))
    lengths = np.zeros((len(new) - 1, len(old) - 1))
    for shift in _shifts(old, new, period):
        low = np.maximum.outer(np.minimum(new[1:], new[:-1]), np.minimum(old[1:], old[:-1]) + shift)
        high = np.minimum.outer(np.maximum(new[1:], new[:-1]), np.maximum(old[1:], old[:-1]) + shift)
        lengths += np.clip(high - low, 0, None)
    return lengths


def _shifts(old: Floats, new: Floats, period: float | None) -> Floats:
    """The shifts by which the old axis is repeated to cover the new one."""
    if period is None:
        return np.zeros(1)
    first = np.floor((new.min() - old.max()) / period)
    last = np.ceil((new.max() - old.min()) / period)
    return np.arange(first, last + 1, dtype=np.float64) * period


def _bilinear(source: Grid, target: Grid, axis: str) -> Floats:
    """(targets, sources) weights of the two neighbours, or of the outermost point alone beyond it."""
    number, period = "yx".index(axis), _period(source, axis)
    old, new = (source.y, target.y) if number == 0 else (source.x, target.x)
    order = np.argsort(old)
    old, names = old[order], order
    if period is not None:
        middle = (old[0] + old[-1]) / 2
        new = middle + (new - middle + period / 2) % period - period / 2
        if source.periodic[number]:
            # One more point at each end, so that the seam lies between two neighbours as well.
            old = np.concatenate([[old[-1] - period], old, [old[0] + period]])
            names = np.concatenate([order[-1:], order, order[:1]])
    weights = np.zeros((len(new), len(order)))
    if len(old) == 1:
        return weights + 1
    left = np.clip(np.searchsorted(old, new, side="right") - 1, 0, len(old) - 2)
    share = np.clip((new - old[left]) / (old[left + 1] - old[left]), 0, 1)
    rows = np.arange(len(new))
    np.add.at(weights, (rows, names[left]), 1 - share)
    np.add.at(weights, (rows, names[left + 1]), share)
    return weights
