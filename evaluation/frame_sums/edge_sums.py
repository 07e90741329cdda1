"""Edge sums: the squared error along the edges of the domain, after PDEBench (Takamoto et al., 2022)."""

import numpy as np

from pelagos.preprocessing.array_types import Floats

STATISTICS = ("edge_squared_error", "edge_weight")


def edge_sums(forecast_NHW: Floats, truth_NHW: Floats) -> dict[str, Floats]:
    """(N,) squared error and number of the points of the four edges, a corner counted with both of its edges.

    Points without a truth don't count; a forecast that is not a number has an infinite error.
    """
    forecast, truth = _edges(forecast_NHW), _edges(truth_NHW)
    valid = ~np.isnan(truth)
    with np.errstate(over="ignore", invalid="ignore"):  # a forecast that blew up
        error = np.where(np.isfinite(forecast), (forecast - truth) ** 2, np.inf)
    sums = np.where(valid, error, 0.0).sum(axis=-1)
    return dict(zip(STATISTICS, (sums, valid.sum(axis=-1).astype(np.float64)), strict=True))


def _edges(field_NHW: Floats) -> Floats:
    """(N, 2 (H + W)) the points of the first and last row and column."""
    sides = (field_NHW[:, 0], field_NHW[:, -1], field_NHW[:, :, 0], field_NHW[:, :, -1])
    return np.concatenate(sides, axis=-1).astype(np.float64)
