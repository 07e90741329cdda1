import json

import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides

PERIODIC: Sides = ("periodic", "periodic")
GLOBE = Grid(
    "latlon", np.linspace(90, -90, 7), np.arange(0, 360, 45.0), ("pole", "pole"), PERIODIC, "degrees"
)
CHANNEL = Grid("cartesian", np.arange(0.5, 4), np.arange(0.0, 2, 0.25), ("wall", "open"), PERIODIC, "m")


def test_area_weights_are_areas_on_the_sphere_of_mean_one() -> None:
    weights = GLOBE.area_weights()
    assert weights.shape == GLOBE.shape == (7, 8)
    assert weights.mean() == pytest.approx(1, rel=1e-14)
    # Bands from the pole to 75 degrees, and from 75 to 45: half a row at the pole.
    bands = np.diff(np.sin(np.deg2rad([45, 75, 90])))
    assert weights[1, 0] / weights[0, 0] == pytest.approx(bands[0] / bands[1], rel=1e-12)
    assert weights[::-1] == pytest.approx(weights, rel=1e-13)
    assert (CHANNEL.area_weights() == 1).all()


def test_edges_lie_between_centres_and_never_beyond_a_pole() -> None:
    y, x = GLOBE.edges
    assert y.tolist() == [90, 75, 45, 15, -15, -45, -75, -90]
    assert x[[0, -1]].tolist() == [-22.5, 337.5]
    assert CHANNEL.edges[0].tolist() == [0, 1, 2, 3, 4]
    assert Grid("cartesian", np.array([3.0]), np.arange(2.0)).edges[0].tolist() == [2.5, 3.5]


def test_spacing_is_a_mean_distance_whatever_the_direction() -> None:
    assert GLOBE.spacing == (30.0, 45.0)
    assert Grid("cartesian", np.array([3.0]), np.array([5.0, 4.0, 1.0])).spacing == (1.0, 2.0)


def test_json_restores_the_grid_exactly() -> None:
    again = Grid.from_json(json.loads(json.dumps(GLOBE.to_json())))
    assert np.array_equal(again.y, GLOBE.y)
    assert np.array_equal(again.x, GLOBE.x)
    assert again.to_json() == GLOBE.to_json()
    assert again.to_attrs() == {
        "grid": "latlon",
        "boundary_y": "pole,pole",
        "boundary_x": "periodic,periodic",
    }


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.0, 1.0, 1.0], "grid axis y .* monotonic; points 1 and 2 are 1 and 1"),
        ([3.0, 2.0, 2.5, 1.0], "grid axis y .* monotonic; points 1 and 2 are 2 and 2.5"),
        ([0.0, np.nan, 2.0], "grid axis y .* monotonic; points 0 and 1 are 0 and nan"),
        ([[0.0, 1.0]], r"grid axis y .* monotonic; it has the shape \(1, 2\)"),
    ],
)
def test_axes_without_order_are_refused_where_they_lose_it(y: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Grid("cartesian", np.array(y), np.arange(3.0))


def test_an_axis_that_is_periodic_on_one_side_is_refused() -> None:
    with pytest.raises(DataError, match="boundary_x is periodic on one side only, periodic,wall"):
        Grid("cartesian", np.arange(3.0), np.arange(3.0), boundary_x=("periodic", "wall"))


def test_sides_stay_where_the_domain_still_ends_and_are_open_elsewhere() -> None:
    whole = CHANNEL.with_axes(np.array([1.0, 3.0]), CHANNEL.x)
    assert (whole.boundary_y, whole.boundary_x) == (("wall", "open"), PERIODIC)
    lower = CHANNEL.with_axes(CHANNEL.y[:2], CHANNEL.x[:4])
    assert (lower.boundary_y, lower.boundary_x) == (("wall", "open"), ("open", "open"))
    turned = CHANNEL.with_axes(CHANNEL.y[::-1], CHANNEL.x)
    assert turned.boundary_y == ("open", "wall")
    assert turned.units == "m"


def chebyshev(num: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * (np.arange(num) + 0.5) / num))


def test_cells_between_walls_weigh_by_their_length_on_uneven_rows() -> None:
    y = chebyshev(48)
    grid = Grid("cartesian", y, np.arange(4.0), ("wall", "wall"), PERIODIC)
    weights = grid.area_weights()
    assert weights.mean() == pytest.approx(1, rel=1e-14)
    assert weights[24, 0] > 10 * weights[0, 0]
    # The means over [0, 1]: rows that weigh alike would give 0.375 for the square.
    for power, exact in ((1, 1 / 2), (2, 1 / 3), (5, 1 / 6)):
        assert (weights[:, 0] * y**power).mean() == pytest.approx(exact, abs=1e-3)
    assert (weights == np.array(weights[:, :1])).all()
    turned = Grid("cartesian", y[::-1].copy(), np.arange(4.0)).area_weights()
    assert turned == pytest.approx(weights[::-1], rel=1e-13)


def test_points_on_the_walls_have_half_cells_and_columns_weigh_too() -> None:
    lobatto = np.array([0.0, 0.5, 2.0, 3.5, 4.0])
    grid = Grid("cartesian", np.arange(2.0), lobatto)
    assert grid.edges[1].tolist() == [0, 0.25, 1.25, 2.75, 3.75, 4]
    assert grid.area_weights()[0] == pytest.approx(np.array([0.25, 1, 1.5, 1, 0.25]) / 0.8)
    assert grid.even == (True, False)


def test_steps_that_grow_evenly_are_continued_beyond_the_outermost_points() -> None:
    edges = np.cumsum([0, 4, 5, 6, 7, 8]).astype(float)
    grid = Grid("cartesian", (edges[1:] + edges[:-1]) / 2, np.arange(2.0))
    assert grid.edges[0][[0, -1]] == pytest.approx([0.25, 30.25])  # 0 and 30, as far as centres tell


def test_rounded_coordinates_are_even() -> None:
    grid = Grid("cartesian", np.linspace(5e6, 5.1e6, 101).astype(np.float32).astype(float), np.arange(3.0))
    assert grid.even == (True, True)
    assert (grid.area_weights() == 1).all()
