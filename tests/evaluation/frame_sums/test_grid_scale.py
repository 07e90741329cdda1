import numpy as np
import pytest

from pelagos.evaluation.frame_sums.grid_scale import grid_scale
from pelagos.preprocessing.grid import Grid, Sides

PERIODIC: Sides = ("periodic", "periodic")


def grid(height: int, width: int, sides: Sides = PERIODIC) -> Grid:
    return Grid(
        "cartesian", np.arange(height, dtype=np.float64), np.arange(width, dtype=np.float64), sides, sides
    )


@pytest.mark.parametrize("sides", [PERIODIC, ("wall", "open")])
def test_all_of_a_checkerboard_is_at_the_grid_scale(sides: Sides) -> None:
    board = 3.0 * (-1) ** np.add.outer(np.arange(6), np.arange(8))[None] + 40
    found = grid_scale(board, np.zeros((1, 6, 8)), grid(6, 8, sides))
    np.testing.assert_allclose(found["checkerboard_forecast"], 9, rtol=1e-12)
    np.testing.assert_allclose(found["variance_forecast"], 9, rtol=1e-12)


def test_a_wave_keeps_the_share_that_the_filter_gives_it() -> None:
    y, x = np.meshgrid(np.arange(16), np.arange(24), indexing="ij")
    wave = np.cos(2 * np.pi * (3 * y / 16 + 5 * x / 24))[None]
    found = grid_scale(wave, wave, grid(16, 24))
    share = np.sin(np.pi * 3 / 16) ** 2 * np.sin(np.pi * 5 / 24) ** 2
    np.testing.assert_allclose(found["checkerboard_truth"] / found["variance_truth"], share, rtol=1e-12)


def test_stripes_are_not_a_checkerboard() -> None:
    stripes = np.broadcast_to((-1.0) ** np.arange(8), (1, 6, 8))
    np.testing.assert_array_equal(grid_scale(stripes, stripes, grid(6, 8))["checkerboard_forecast"], 0)


def test_holes_leave_out_the_points_beside_them_in_both_fields() -> None:
    board = (-1.0) ** np.add.outer(np.arange(6), np.arange(6))[None]
    truth = board.copy()
    truth[0, 2, 2] = np.nan
    forecast = board.copy()
    forecast[0, 2, 2] = 1e6
    found = grid_scale(forecast, truth, grid(6, 6))
    np.testing.assert_allclose(found["checkerboard_forecast"], 1)
    np.testing.assert_allclose(found["checkerboard_truth"], 1)


def test_a_failed_forecast_is_rough_without_end() -> None:
    forecast = np.zeros((1, 4, 4))
    forecast[0, 0, 0] = np.inf
    assert grid_scale(forecast, np.zeros((1, 4, 4)), grid(4, 4))["checkerboard_forecast"] == np.inf
