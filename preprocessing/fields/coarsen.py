"""Coarsening by block means: each new cell has the area-weighted mean of the cells that it covers."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid


@dataclass(frozen=True, eq=False)
class Coarsener:
    """Averages blocks of `factor` by `factor` cells of a grid."""

    fine: Grid
    factor: int

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """One frame (H, W) to (H / factor, W / factor)."""
        return coarsen(values, self.fine, self.factor)


def coarse_grid(grid: Grid, factor: int) -> Grid:
    """The grid whose cells are blocks of `factor` by `factor` cells.

    Raises:
        ConfigError: the factor does not divide the number of rows or of columns.
    """
    for axis, size in zip("yx", grid.shape, strict=True):
        if size % factor:
            raise ConfigError(f"coarsen: {factor} does not divide the {size} points along {axis}")
    y, x = (values.reshape(-1, factor).mean(axis=1) for values in (grid.y, grid.x))
    return replace(grid, y=y, x=x)


def coarsen(values: NDArray[Any], grid: Grid, factor: int) -> NDArray[np.float64]:
    """The means (H / factor, W / factor) of blocks of a frame (H, W), over the values that are not NaN.

    A mean is NaN where all values of its block are.
    """
    height, width = grid.shape
    blocks = (height // factor, factor, width // factor, factor)
    cells = values.astype(np.float64).reshape(blocks)
    missing = np.isnan(cells)
    # Areas of the fine cells: the rows of a block differ in theirs on latitudes.
    weights = np.where(missing, 0, grid.area_weights().reshape(blocks))
    total = weights.sum(axis=(1, 3))
    sums: NDArray[np.float64] = (np.where(missing, 0, cells) * weights).sum(axis=(1, 3))
    means = np.full_like(sums, np.nan)
    np.divide(sums, total, out=means, where=total > 0)
    return means
