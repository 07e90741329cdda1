"""Linear regression: the best linear map from what is known at a point at the start to what happens there later.

Each lead time has a map of its own, the same at all points. A little of the sum of squares of its coefficients is
added to that of its errors (ridge regression, Hoerl and Kennard, Technometrics 12 (1970) 55), so that features that
say the same do no harm.

Shapes: N frames, C channels, F features, H rows, W columns, V variables that are forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pelagos.evaluation.baselines import Array, neighbourhood
from pelagos.preprocessing.grid import Grid

PENALTIES = (1e-8, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties on coefficients to choose from; features have deviations of about 1."""


@dataclass(frozen=True, eq=False)
class HourlyMeans:
    """The means of fields at each point by the hour of the day, which anomalies are from.

    Attributes:
        means: (P, C, H, W) of each hour, or a single one where frames have no dates.
        std: (C,) deviation of the anomalies of each channel, 1 where they are all 0.
    """

    means: Array
    std: Array

    def anomalies(self, fields_NCHW: Array, hours_N: np.ndarray) -> Array:
        """(N, C, H, W) fields less the means of their hour, in deviations; missing values stay NaN."""
        return np.asarray((fields_NCHW - self.means[hours_N]) / self.std[:, None, None])

    def restored(self, anomalies_NVHW: Array, hours_N: np.ndarray, channels: Sequence[int]) -> Array:
        """(N, V, H, W) fields of some of the channels, the inverse of `anomalies`."""
        chosen = list(channels)
        return np.asarray(anomalies_NVHW * self.std[chosen, None, None] + self.means[hours_N][:, chosen])


def features(now_NCHW: Array, before_NCHW: Array | None, known_NKHW: Array, grid: Grid, radius: int) -> Array:
    """(N H W, F) what is known at each point: its neighbourhood, itself a frame before, other fields, a constant.

    Missing values are 0, the mean.

    Args:
        now_NCHW: anomalies at the initial time.
        before_NCHW: the same a frame before; None where there is none.
        known_NKHW: what is known besides, such as forcings at the valid time.
        grid: whose boundaries say what lies beyond the edges.
        radius: of the neighbourhood [points].
    """
    around = neighbourhood(now_NCHW, grid, radius)
    others = [known_NKHW] if before_NCHW is None else [before_NCHW, known_NKHW]
    at_point = np.nan_to_num(np.concatenate(others, axis=1))
    columns = np.moveaxis(at_point, 1, -1).reshape(len(around), -1)
    # The constant is the last of the neighbourhood's columns.
    return np.concatenate([around[:, :-1], columns, around[:, -1:]], axis=1)


@dataclass(eq=False)
class LeastSquares:
    """Sums of products of features and targets, block by block; (F, F) and (F, V) whatever the number of rows."""

    products: Array = field(default_factory=lambda: np.zeros((0, 0)))
    answers: Array = field(default_factory=lambda: np.zeros((0, 0)))
    squares: Array = field(default_factory=lambda: np.zeros(0))
    rows: int = 0

    def add(self, features_RF: Array, targets_RV: Array) -> None:
        """Count rows in; those whose target is missing anywhere are left out."""
        there = np.isfinite(targets_RV).all(axis=1)
        given, wanted = features_RF[there], targets_RV[there]
        more = LeastSquares(given.T @ given, given.T @ wanted, (wanted**2).sum(axis=0), len(given))
        self.merge(more)

    def merge(self, other: "LeastSquares") -> None:
        """Count the rows of another in."""
        first = not self.rows
        self.products = other.products if first else self.products + other.products
        self.answers = other.answers if first else self.answers + other.answers
        self.squares = other.squares if first else self.squares + other.squares
        self.rows += other.rows

    def coefficients(self, penalty: float) -> Array:
        """(F, V) the map of least squares, with a penalty on all coefficients."""
        identity = penalty * self.rows * np.eye(len(self.products))
        return np.asarray(np.linalg.solve(self.products + identity, self.answers), np.float64)

    def share_left(self, map_FV: Array) -> float:
        """The mean over targets of the share of their squares that a map leaves."""
        left = (map_FV * (self.products @ map_FV - 2 * self.answers)).sum(axis=0) + self.squares
        return float(np.mean(left / np.where(self.squares > 0, self.squares, 1.0)))


def chosen_map(early: LeastSquares, late: LeastSquares) -> tuple[Array, float]:
    """(F, V) the map of all rows, and its penalty: that whose map of the early rows leaves least of the late ones."""
    best = PENALTIES[0]
    if early.rows and late.rows:
        best = min(PENALTIES, key=lambda one: late.share_left(early.coefficients(one)))
    everything = LeastSquares()
    for part in (early, late):
        if part.rows:
            everything.merge(part)
    return everything.coefficients(best), best
