"""Driven sides: a limited area whose sides are given at each step, by a wider model or by what was observed.

Source: Davies, A lateral boundary formulation for multi-level prediction models (QJRMS 102, 1976, 405-418).

Shapes: H rows, W columns.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.grid import Boundary, Grid, Sides

_OPEN: tuple[Boundary, ...] = ("open", "unknown")


class DrivenSides(Config):
    """Prognostic fields at the open sides of a region are those from outside, and within it pass into the forecast's.

    In training they are those of the target frame; in forecasts those of `forcings`, a wider model's forecast, or where
    none is given those of the store. Poles, walls and sides that go round are left alone.

    Attributes:
        width: cells from a side in which the share of what is given falls from 1, at the side, to 0.
    """

    kind: Literal["driven_sides"] = "driven_sides"
    width: int = Field(gt=0)

    def shares(self, grid: Grid) -> Tensor:
        """(H, W) the share of what is given; 0 throughout where no side is open. float32."""
        rows = self._falling(len(grid.y), grid.boundary_y)
        columns = self._falling(len(grid.x), grid.boundary_x)
        return torch.from_numpy(np.maximum(rows[:, None], columns).astype(np.float32))

    def _falling(self, points: int, sides: Sides) -> NDArray[np.float64]:
        place = np.arange(points)
        shares = np.zeros(points)
        for side, distance in zip(sides, (place, place[::-1]), strict=True):
            if side in _OPEN:
                share = np.cos(np.pi / 2 * np.minimum(distance / self.width, 1)) ** 2
                # Exactly none beyond: the cosine of a quarter turn is not quite 0.
                shares = np.maximum(shares, np.where(distance < self.width, share, 0.0))
        return shares
