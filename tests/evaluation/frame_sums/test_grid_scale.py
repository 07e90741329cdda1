import numpy as np
import pytest

from pelagos.evaluation.frame_sums.grid_scale import grid_scale
from pelagos.preprocessing.array_types import Floats

BOTH, NEITHER = (True, True), (False, False)
WAVES = {"along both axes": (1, 1), "along y": (1, 0), "along x": (0, 1)}


def alternating(height: int, width: int, along: tuple[int, int]) -> Floats:
    """(1, H, W) stripes or a checkerboard of 1 and -1."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.where((along[0] * y + along[1] * x) % 2, -1.0, 1.0)[None]


def energies(forecast: Floats, truth: Floats, periodic: tuple[bool, bool] = BOTH) -> tuple[float, float]:
    found = grid_scale(forecast, truth, np.ones(truth.shape[1:]), periodic)
    return float(found["alternating_forecast"][0]), float(found["alternating_truth"][0])


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("periodic", [BOTH, (True, False), NEITHER])
def test_all_of_stripes_and_checkerboards_is_at_the_grid_scale(
    wave: str, periodic: tuple[bool, bool]
) -> None:
    field = 3 * alternating(6, 8, WAVES[wave]) + 40
    assert energies(field, np.zeros((1, 6, 8)), periodic) == (9, 0)


@pytest.mark.parametrize("wave", WAVES)
def test_an_odd_axis_that_is_not_periodic_alternates_as_an_even_one_does(wave: str) -> None:
    field = 3 * alternating(7, 5, WAVES[wave])
    assert energies(field, field, NEITHER) == (9, 9)


def test_an_odd_axis_that_is_periodic_has_no_alternating_wave_but_one_that_is_close() -> None:
    x = np.arange(9)
    wave = np.sqrt(2) * np.cos(2 * np.pi * 4 * x / 9)
    field = np.broadcast_to(wave, (1, 5, 9)).copy()
    np.testing.assert_allclose(energies(field, field), np.sin(np.pi * 4 / 9) ** 8, rtol=1e-12)


def test_a_wave_keeps_the_share_that_the_filters_give_it() -> None:
    y, x = np.meshgrid(np.arange(16), np.arange(24), indexing="ij")
    wave = np.sqrt(2) * np.cos(2 * np.pi * (3 * y / 16 + 5 * x / 24))[None]
    (s_y, c_y), (s_x, c_x) = (
        (np.sin(half) ** 8, np.cos(half) ** 8) for half in (np.pi * 3 / 16, np.pi * 5 / 24)
    )
    np.testing.assert_allclose(energies(wave, wave), s_x * c_y + c_x * s_y + s_x * s_y, rtol=1e-12)


def test_slopes_and_bends_are_not_at_the_grid_scale() -> None:
    y, x = np.meshgrid(np.arange(6.0), np.arange(8.0), indexing="ij")
    bend = (2 * y + 3 * x + x**2 - y**2 + x * y)[None]
    assert energies(bend, bend, NEITHER) == (0, 0)


def test_holes_leave_out_the_points_beside_them_in_both_fields() -> None:
    board = alternating(8, 10, (1, 1))
    truth, forecast = board.copy(), board.copy()
    truth[0, 2, 2] = np.nan
    forecast[0, 2, 2] = 1e6
    assert energies(forecast, truth) == (1, 1)


def test_points_weigh_as_they_are_told() -> None:
    board = alternating(10, 8, (0, 1)) * np.repeat([1.0, 5.0], 5)[:, None]
    weights = np.zeros((10, 8))
    weights[2], weights[7] = 1, 3
    found = grid_scale(board, board, weights, NEITHER)
    np.testing.assert_allclose(found["alternating_truth"], (1 + 3 * 25) / 4, rtol=1e-12)


def test_an_axis_too_short_for_neighbours_has_nothing_at_the_grid_scale() -> None:
    field = np.random.default_rng(0).normal(size=(1, 4, 8))
    assert energies(field, field, NEITHER) == (0, 0)


@pytest.mark.parametrize("shape", [(1, 8), (8, 1)])
def test_stripes_along_a_single_row_or_column_are_at_the_grid_scale(shape: tuple[int, int]) -> None:
    field = 3 * alternating(*shape, (1, 1))
    assert energies(field, 0 * field, NEITHER) == (9, 0)


@pytest.mark.parametrize("place", [(0, 0), (2, 2)])
def test_a_failed_forecast_is_rough_without_end(place: tuple[int, int]) -> None:
    forecast = np.zeros((1, 6, 6))
    forecast[0][place] = np.nan
    assert energies(forecast, np.zeros((1, 6, 6)), NEITHER) == (np.inf, 0)


def test_fields_of_a_batch_do_not_mix() -> None:
    fields = np.concatenate([scale * alternating(6, 8, wave) for scale, wave in enumerate(WAVES.values(), 1)])
    found = grid_scale(fields.astype(np.float32), 0 * fields, np.ones((6, 8)), BOTH)
    np.testing.assert_array_equal(found["alternating_forecast"], [1, 4, 9])
