"""Quadrant power: the error's Fourier power by whole wavenumber, over the modes that PDEBench counts.

`spectra.band_rmse` is the error of a band in the field's units; this is the benchmark's own number, for comparison with
its tables (Takamoto et al., 2022).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pelagos.preprocessing.array_types import Floats

STATISTICS = ("quadrant_power",)


def quadrant_power(forecast_NHW: Floats, truth_NHW: Floats) -> dict[str, Floats]:
    """(N, K) Σ |FFT(e)|² / (H W)² over modes 0 ≤ i < H/2, 0 ≤ j < W/2 with ⌊√(i² + j²)⌋ = k < K = min(H, W) // 2.

    Infinite where the forecast is not a number at a point with a truth, zero where a truth is missing somewhere: the
    error of such a frame has no transform.
    """
    shells, count = _shells(*truth_NHW.shape[-2:])
    h, w = truth_NHW.shape[-2] // 2, truth_NHW.shape[-1] // 2
    whole = ~np.isnan(truth_NHW).any(axis=(-2, -1))
    finite = np.isfinite(forecast_NHW).all(axis=(-2, -1))
    usable = np.asarray(whole & finite)[:, None, None]
    error_NHW = np.where(usable, forecast_NHW.astype(np.float64) - truth_NHW, 0.0)
    modes = fft.rfft2(error_NHW, norm="forward")[:, :h, :w]
    squares = (modes.real**2 + modes.imag**2).reshape(len(modes), -1)
    sums = (
        np.stack([np.bincount(shells, row, count + 1)[:count] for row in squares])
        if len(squares)
        else squares
    )
    return {STATISTICS[0]: np.where(np.asarray(whole & ~finite)[:, None], np.inf, sums)}


@lru_cache(maxsize=8)
def _shells(height: int, width: int) -> tuple[NDArray[np.intp], int]:
    """The shell of each mode of the quadrant, flattened; `count` for those beyond the last."""
    count = min(height, width) // 2
    radius = np.hypot(np.arange(height // 2)[:, None], np.arange(width // 2)[None, :])
    return np.minimum(np.floor(radius).astype(np.intp), count).ravel(), count
