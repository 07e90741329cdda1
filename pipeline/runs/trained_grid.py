"""Trained grid: what a model remembers of the grid that it was trained on."""

from typing import Literal, Self

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.grid import Grid, Sides


class TrainedAxis(Config):
    """Where the points of an axis were.

    Attributes:
        first: the first centre, in the grid's units.
        last: the last one; smaller than the first where the axis falls.
        points: how many there were.
        periodic: whether the axis wrapped round.
        sides: what lay before the first and after the last row or column; None of models of earlier versions.
    """

    first: float
    last: float
    points: int
    periodic: bool
    sides: Sides | None = None

    @property
    def ascending(self) -> bool:
        """Whether positions grow along the axis."""
        return self.last > self.first

    @property
    def spacing(self) -> float:
        """Mean distance of neighbouring points; 1 of a single one, as of `Grid`."""
        return abs(self.last - self.first) / (self.points - 1) if self.points > 1 else 1.0


class TrainedGrid(Config):
    """The grid of a dataset that a model was trained on.

    Attributes:
        kind: the grid's kind.
        units: the units of positions.
        y: its rows.
        x: its columns.
    """

    kind: Literal["cartesian", "latlon"]
    units: str
    y: TrainedAxis
    x: TrainedAxis

    @classmethod
    def of(cls, grid: Grid) -> Self:
        """What is worth remembering of a grid."""
        y, x = (
            # Ends and number, not every point: a description that people can read, and that shows what differs.
            TrainedAxis(
                first=float(axis[0]),
                last=float(axis[-1]),
                points=len(axis),
                periodic=sides[0] == "periodic",
                sides=sides,
            )
            for axis, sides in ((grid.y, grid.boundary_y), (grid.x, grid.boundary_x))
        )
        return cls(kind=grid.kind, units=grid.units, y=y, x=x)
