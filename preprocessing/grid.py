"""Grid: where the values of a field are, how large its cells are and what lies beyond its edges."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError

Boundary = Literal["periodic", "wall", "open", "pole", "unknown"]
Sides = tuple[Boundary, Boundary]
"""What lies before the first and after the last row or column."""
GridKind = Literal["cartesian", "latlon"]


@dataclass(frozen=True, eq=False)
class Grid:
    """A two-dimensional regular grid, rows along y (latitude) and columns along x (longitude).

    Attributes:
        kind: `cartesian`, or `latlon` with y and x in degrees.
        y: (H,) centres of the rows in the archive's order, which may be descending; float64.
        x: (W,) centres of the columns; float64.
        boundary_y: what lies before the first and after the last row.
        boundary_x: what lies before the first and after the last column.
        units: units of y and x; degrees on a `latlon` grid.
    """

    kind: GridKind
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    boundary_y: Sides = ("unknown", "unknown")
    boundary_x: Sides = ("unknown", "unknown")
    units: str = "1"

    def __post_init__(self) -> None:
        for axis, values in (("y", self.y), ("x", self.x)):
            steps = np.diff(values)
            if values.ndim != 1 or not (np.all(steps > 0) or np.all(steps < 0)):
                raise DataError(
                    f"grid axis {axis} must be one-dimensional and strictly monotonic; {_disorder(values)}"
                )
        for axis, sides in (("y", self.boundary_y), ("x", self.boundary_x)):
            if "periodic" in sides and sides != ("periodic", "periodic"):
                raise DataError(
                    f"boundary_{axis} is periodic on one side only, {','.join(sides)}; both sides or none must be"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return len(self.y), len(self.x)

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether the grid wraps around along y, and along x."""
        return self.boundary_y[0] == "periodic", self.boundary_x[0] == "periodic"

    @property
    def whole_sphere(self) -> bool:
        """Whether the grid goes round the Earth and reaches both poles."""
        return self.kind == "latlon" and self.boundary_y == ("pole", "pole") and self.periodic[1]

    @property
    def spacing(self) -> tuple[float, float]:
        """Mean distance between rows and between columns, in `units`; 1 along an axis of a single point."""
        return _spacing(self.y), _spacing(self.x)

    @property
    def even(self) -> tuple[bool, bool]:
        """Whether the rows, and the columns, are evenly spaced."""
        return _is_even(self.y), _is_even(self.x)

    @property
    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(H + 1,) and (W + 1,) edges of the cells, half-way between centres and never beyond a pole."""
        if self.kind == "latlon":
            # Gaussian latitudes are uneven by a little; their outer cells end at the poles.
            return np.clip(_even_edges(self.y), -90, 90), _edges(self.x)
        return _edges(self.y), _edges(self.x)

    def area_weights(self) -> NDArray[np.float64]:
        """(H, W) cell areas divided by their mean.

        On latitudes a cell's area is sin(upper edge) - sin(lower edge) for each degree of longitude, the
        definition of WeatherBench 2. Cells of evenly spaced columns, and Cartesian rows, all weigh the same.
        """
        y, x = self.edges
        rows = _lengths(self.y, y) if self.kind == "cartesian" else np.abs(np.diff(np.sin(np.deg2rad(y))))
        rows, columns = rows / rows.mean(), _lengths(self.x, x)
        return np.asarray(rows[:, None] * (columns / columns.mean()))

    def with_axes(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> "Grid":
        """A grid of other axes within this domain; sides where the domain no longer ends become open."""
        bare = replace(self, y=y, x=x, boundary_y=("open", "open"), boundary_x=("open", "open"))
        sides = (
            _sides_within(old, kinds, new)
            for old, kinds, new in zip(
                self.edges, (self.boundary_y, self.boundary_x), bare.edges, strict=True
            )
        )
        boundary_y, boundary_x = sides
        return replace(bare, boundary_y=boundary_y, boundary_x=boundary_x)

    def to_attrs(self) -> dict[str, str]:
        """The attributes by which a dataset describes its grid, besides the coordinates."""
        return {
            "grid": self.kind,
            "boundary_y": ",".join(self.boundary_y),
            "boundary_x": ",".join(self.boundary_x),
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` restores this grid exactly."""
        return {
            "kind": self.kind,
            "y": self.y.tolist(),
            "x": self.x.tolist(),
            "boundary_y": list(self.boundary_y),
            "boundary_x": list(self.boundary_x),
            "units": self.units,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Grid":
        """The inverse of `to_json`."""
        return cls(
            kind=values["kind"],
            y=np.asarray(values["y"], dtype=np.float64),
            x=np.asarray(values["x"], dtype=np.float64),
            boundary_y=(values["boundary_y"][0], values["boundary_y"][1]),
            boundary_x=(values["boundary_x"][0], values["boundary_x"][1]),
            units=values["units"],
        )


def _disorder(values: NDArray[np.float64]) -> str:
    """Where an axis is not what it must be."""
    if values.ndim != 1:
        return f"it has the shape {values.shape}"
    steps = np.diff(values) * (1 if values[-1] >= values[0] else -1)
    point = int(np.argmin(steps > 0))  # NaN is not larger either
    return f"points {point} and {point + 1} are {values[point]:g} and {values[point + 1]:g}"


def _spacing(values: NDArray[np.float64]) -> float:
    return float(abs(values[-1] - values[0]) / (len(values) - 1)) if len(values) > 1 else 1.0


def _is_even(values: NDArray[np.float64]) -> bool:
    """Whether all steps are the mean one, up to the rounding of coordinates in single precision."""
    steps = np.abs(np.diff(values))
    return bool(np.all(np.abs(steps - _spacing(values)) <= 2e-3 * _spacing(values)))


def _lengths(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lengths of an axis's cells; ones where they differ by rounding only."""
    return np.ones(len(values)) if _is_even(values) else np.abs(np.diff(edges))


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if _is_even(values):
        return _even_edges(values)
    # Steps that grow away from a wall are followed to the wall: the point before the first would be as far from it
    # as the steps change linearly, but never behind it. Points on a wall, or Chebyshev's beside it, end there.
    steps = np.diff(values)
    before, after = (_continued(near, far) for near, far in ((steps[0], steps[1]), (steps[-1], steps[-2])))
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([[values[0] - before / 2], middles, [values[-1] + after / 2]])


def _continued(near: float, far: float) -> float:
    """The step beyond the outermost one, of the same sign or zero."""
    beyond = 2 * near - far
    return beyond if beyond * near > 0 else 0.0


def _even_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    half = _spacing(values) / 2 * (1 if values[-1] >= values[0] else -1)
    return np.concatenate([[values[0] - half], (values[1:] + values[:-1]) / 2, [values[-1] + half]])


def _sides_within(old: NDArray[np.float64], kinds: Sides, new: NDArray[np.float64]) -> Sides:
    """What lies beyond the first and last of the new edges."""
    # Grids of other resolution end up to half a cell elsewhere in the same domain; a little more is rounding.
    slack = 0.51 * max(np.abs(np.diff(old)).mean(), np.abs(np.diff(new)).mean())
    if kinds[0] == "periodic":
        return kinds if abs(np.ptp(old) - np.ptp(new)) < slack else ("open", "open")
    # Compared by position, since either grid may run the other way.
    by_edge = zip(old[[0, -1]], kinds, strict=True)
    low, high = (kind for _, kind in sorted(by_edge, key=lambda side: float(side[0])))
    low = low if abs(new.min() - old.min()) < slack else "open"
    high = high if abs(new.max() - old.max()) < slack else "open"
    return (low, high) if new[-1] >= new[0] else (high, low)
