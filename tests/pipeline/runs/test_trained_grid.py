"""What a model remembers of a grid."""

import numpy as np

from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.preprocessing.grid import Grid


def test_directions_spacings_and_periodicity_are_remembered() -> None:
    grid = Grid(
        "latlon",
        np.array([60.0, 30.0, 0.0]),
        np.linspace(0, 270, 4),
        ("pole", "open"),
        ("periodic", "periodic"),
        "degrees",
    )
    known = TrainedGrid.of(grid)
    assert (known.y.ascending, known.x.ascending) == (False, True)
    assert (known.y.spacing, known.x.spacing) == grid.spacing
    assert (known.y.periodic, known.x.periodic) == grid.periodic
    assert (known.y.sides, known.x.sides) == (grid.boundary_y, grid.boundary_x)
    assert TrainedGrid.model_validate_json(known.model_dump_json()) == known


def test_a_grid_of_an_earlier_version_knows_no_sides_but_whether_they_are_periodic() -> None:
    known = TrainedGrid.of(
        Grid("cartesian", np.arange(3.0), np.arange(4.0), ("wall", "wall"), ("open", "open"))
    )
    older = known.model_dump(mode="json")
    for axis in ("y", "x"):
        del older[axis]["sides"]
    found = TrainedGrid.model_validate(older)
    assert (found.y.sides, found.y.periodic) == (None, False)


def test_a_single_row_has_the_spacing_of_its_grid() -> None:
    grid = Grid("cartesian", np.zeros(1), np.arange(4.0))
    assert TrainedGrid.of(grid).y.spacing == grid.spacing[0] == 1
