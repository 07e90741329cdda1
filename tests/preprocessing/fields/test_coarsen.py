from pathlib import Path

import numpy as np
import pytest
from analytic_source import EVERYTHING, Analytic, analytic_fields

from pelagos.preprocessing.fields.coarsen import coarse_grid, coarsen
from pelagos.preprocessing.grid import Grid


def test_coarsening_takes_means_of_blocks(tmp_path: Path) -> None:
    found = analytic_fields(tmp_path, {"static": "varying"}, coarsen=4)
    values = Analytic().values("velocity_x").astype(np.float64)
    expected = values.reshape(6, 5, 2, 4, 2, 4).mean(axis=(3, 5))
    assert found.read(*EVERYTHING)[:, :, 0] == pytest.approx(expected, rel=1e-6)
    assert found.grid.x.tolist() == [3 / 16, 11 / 16]
    depth = Analytic().values("depth")[:, 0].astype(np.float64).reshape(6, 2, 4, 2, 4).mean(axis=(2, 4))
    assert found.read_static(slice(0, 6))[:, 0] == pytest.approx(depth, rel=1e-6)


def test_coarsening_conserves_the_integral_on_a_sphere() -> None:
    fine = Grid("latlon", np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0))
    coarse = coarse_grid(fine, 4)
    values = np.cos(np.deg2rad(fine.y))[:, None] * (2 + np.sin(np.deg2rad(fine.x)))
    before = (values * fine.area_weights()).mean()
    # Area weights of a coarse grid are those of its own cells, whose edges are the fine ones'.
    after = (coarsen(values, fine, 4) * coarse.area_weights()).mean()
    assert after == pytest.approx(before, rel=1e-12)


def test_coarsening_looks_past_missing_values() -> None:
    grid = Grid("cartesian", np.arange(2.0), np.arange(4.0))
    values = np.array([[1, np.nan, np.nan, np.nan], [3, 5, np.nan, np.nan]])
    means = coarsen(values, grid, 2)
    assert means[0, 0] == 3
    assert np.isnan(means[0, 1])


def test_coarsening_weighs_uneven_cells_by_their_length() -> None:
    grid = Grid("cartesian", np.array([0.0, 1, 3, 6]), np.arange(2.0))
    # Edges at 0, 0.5, 2, 4.5 and 8.
    means = coarsen(np.repeat([[1.0], [3.0], [5.0], [7.0]], 2, axis=1), grid, 2)
    assert means[:, 0] == pytest.approx([(0.5 + 3 * 1.5) / 2, (5 * 2.5 + 7 * 3.5) / 6])
