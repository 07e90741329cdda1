"""Grid: where the values of a field are, how large their cells are and what lies beyond the edges."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DataError

Boundary = Literal["periodic", "wall", "open", "pole", "unknown"]
Sides = tuple[Boundary, Boundary]
Kind = Literal["cartesian", "latlon"]


@dataclass(frozen=True, eq=False)
class Grid:
    """A two-dimensional regular grid, rows along y (latitude) and columns along x (longitude).

    Attributes:
        kind: `cartesian`, or `latlon` with y and x in degrees.
        y: (H,) centres of the rows, in the archive's order; float64.
        x: (W,) centres of the columns; float64.
        boundary_y: what lies before the first and after the last row.
        boundary_x: likewise for columns.
        units: of y and x.
    """

    kind: Kind
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    boundary_y: Sides = ("unknown", "unknown")
    boundary_x: Sides = ("unknown", "unknown")
    units: str = "1"

    def __post_init__(self) -> None:
        for axis, values in (("y", self.y), ("x", self.x)):
            steps = np.diff(values)
            if values.ndim != 1 or not (np.all(steps > 0) or np.all(steps < 0)):
                raise DataError(f"grid axis {axis} must be one-dimensional and strictly monotonic")
        for axis, sides in (("y", self.boundary_y), ("x", self.boundary_x)):
            if "periodic" in sides and sides != ("periodic", "periodic"):
                raise DataError(f"boundary_{axis} is periodic on one side only: {sides}")

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return len(self.y), len(self.x)

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether rows, and columns, wrap around."""
        return self.boundary_y[0] == "periodic", self.boundary_x[0] == "periodic"

    @property
    def spacing(self) -> tuple[float, float]:
        """Mean distance of rows and of columns, in `units`; 1 along an axis of a single point."""
        return _spacing(self.y), _spacing(self.x)

    def area_weights(self) -> NDArray[np.float64]:
        """(H, W) cell areas divided by their mean.

        On latitudes a cell's area is sin(upper edge) - sin(lower edge), edges half way between
        centres and never beyond a pole (the definition of WeatherBench 2).
        """
        if self.kind == "cartesian":
            rows = np.ones(len(self.y))
        else:
            inner = (self.y[1:] + self.y[:-1]) / 2
            half = self.spacing[0] / 2 * (1 if self.y[-1] >= self.y[0] else -1)
            edges = np.concatenate([[self.y[0] - half], inner, [self.y[-1] + half]])
            rows = np.abs(np.diff(np.sin(np.deg2rad(np.clip(edges, -90, 90)))))
        return np.broadcast_to((rows / rows.mean())[:, None], self.shape).copy()

    def to_attrs(self) -> dict[str, str]:
        """What a dataset's attributes say of its grid beside the coordinates."""
        return {
            "grid": self.kind,
            "boundary_y": ",".join(self.boundary_y),
            "boundary_x": ",".join(self.boundary_x),
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` makes an equal grid."""
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


def _spacing(values: NDArray[np.float64]) -> float:
    return float(abs(values[-1] - values[0]) / (len(values) - 1)) if len(values) > 1 else 1.0
