"""Grid scale: how much of a field alternates from point to point, as the artefacts of patches and strides do.

The detail d = (a − b − c + d)/4 of every two by two neighbouring points takes sin²(kₓΔ/2) sin²(k_yΔ/2) of the energy
of a wave: all of a checkerboard, next to nothing of a resolved wave. No transform is made, so boundaries, missing
values and uneven axes do no harm.
"""

import numpy as np

from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.grid import Grid

STATISTICS = tuple(
    f"{what}_{name}" for name in ("forecast", "truth") for what in ("checkerboard", "variance")
)


def grid_scale(forecast_NHW: Floats, truth_NHW: Floats, grid: Grid) -> dict[str, Floats]:
    """(N,) mean square of the checkerboard detail, and variance, of forecast and truth.

    Points without a truth count in neither. A forecast that is not a number has infinite energy at the grid scale.
    """
    valid = ~np.isnan(truth_NHW)
    finite: Flags = np.asarray(np.isfinite(np.where(valid, forecast_NHW, 0.0)).all(axis=(-2, -1)))
    found = {}
    for name, field in (("forecast", forecast_NHW), ("truth", truth_NHW)):
        values = np.where(valid & finite[:, None, None], field, 0.0).astype(np.float64)
        with np.errstate(over="ignore"):
            found[f"checkerboard_{name}"] = _mean_square(_detail(values), _all_four(valid, grid))
            found[f"variance_{name}"] = _variance(values, valid)
    for what in STATISTICS[:2]:
        found[what] = np.where(finite, found[what], np.inf)
    return found


def _detail(values: Floats) -> Floats:
    for axis in (-2, -1):
        values = (values - np.roll(values, -1, axis=axis)) / 2
    return values


def _all_four(valid: Flags, grid: Grid) -> Flags:
    """Whether a point and its three neighbours to come exist; beyond the last one is the first of a periodic axis."""
    for axis, periodic in zip((-2, -1), grid.periodic, strict=True):
        following = np.roll(valid, -1, axis=axis)
        if not periodic:
            following[(..., -1, slice(None)) if axis == -2 else (..., -1)] = False
        valid = valid & following
    return valid


def _mean_square(values: Floats, valid: Flags) -> Floats:
    count = valid.sum(axis=(-2, -1))
    return np.asarray(np.where(valid, values**2, 0.0).sum(axis=(-2, -1)) / np.maximum(count, 1))


def _variance(values: Floats, valid: Flags) -> Floats:
    count = np.maximum(valid.sum(axis=(-2, -1)), 1)
    mean = values.sum(axis=(-2, -1)) / count
    return _mean_square(values - mean[:, None, None], valid)
