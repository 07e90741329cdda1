"""Statistics of random forecasts, gathered by plain NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.frame_sums.edge_sums import edge_sums
from pelagos.evaluation.frame_sums.quadrant_power import quadrant_power

Array = NDArray[np.float64]
Gather = Callable[..., SampleStatistics]
MEAN, STD = np.array([1.0, -2.0, 0.5]), np.array([2.0, 3.0, 0.25])
GROUP = {"velocity_x": "velocity", "density": "density", "velocity_y": "velocity"}


def _gather(
    p: Array, t: Array, climatology: Array | None = None, weights: Array | None = None
) -> SampleStatistics:
    """Of (S, L, V, H, W) fields without missing values."""
    w = np.ones(p.shape[-2:]) if weights is None else weights
    bad, total = ~np.isfinite(p), w.sum()
    e, p = np.where(bad, np.inf, p - t), np.where(bad, np.nan, p)
    mean, std = (one[: p.shape[2], None, None] for one in (MEAN, STD))

    def sums(values: Array) -> Array:
        return np.asarray((w * values).sum(axis=(-2, -1)))

    def products(a: Array, b: Array, prefix: str) -> dict[str, Array]:
        pairs = {"product": a * b, "squared_forecast": a**2, "squared_truth": b**2}
        return {prefix + name: sums(values) for name, values in pairs.items()}

    def centred(field: Array) -> Array:
        return np.asarray(field - sums(field)[..., None, None] / total)

    found = {
        "weight": sums(np.ones_like(t)),
        "error": sums(e),
        "absolute_error": sums(np.abs(e)),
        "squared_error": sums(e**2),
        "absolute_truth": sums(np.abs(t)),
        "normalised_error": sums(np.abs(e) / std),
        "normalised_truth": sums(np.abs(t - mean) / std),
        "max_absolute_error": np.abs(e).max(axis=(-2, -1)),
        **products(p, t, ""),
        **products(centred(p), centred(t), "centred_"),
    }
    if climatology is not None:
        found |= products(p - climatology, t - climatology, "anomaly_")
    flat_p, flat_t = (one.reshape(-1, *one.shape[-2:]) for one in (p, t))
    extra = edge_sums(flat_p, flat_t) | quadrant_power(flat_p, flat_t)
    shape = p.shape[:3]
    found |= {name: values.reshape(*shape, *values.shape[1:]) for name, values in extra.items()}
    names = list(GROUP)[: p.shape[2]]
    return SampleStatistics(found, {name: GROUP[name] for name in names}, np.arange(1.0, p.shape[1] + 1))


@pytest.fixture(scope="session")
def gather() -> Gather:
    """gather(forecast, truth, climatology=None, weights=None) -> statistics of (S, L, V, H, W) fields."""
    return _gather


@pytest.fixture
def fields() -> tuple[Array, Array]:
    """Forecast and truth of seven samples, four lead times, three variables, 28 by 32 points."""
    rng = np.random.default_rng(0)
    truth = rng.normal(1, 2, (7, 4, 3, 28, 32))
    return truth + rng.normal(0, 0.5, truth.shape) * np.arange(1, 5)[:, None, None, None], truth
