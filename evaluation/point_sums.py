"""Point sums: all that scores need of a field's points, taken in one compiled pass over forecast and truth.

Every number is a plain sum, a maximum, or a moment, so that `scores` can be computed from it later, for any set of
samples. Shapes: N fields, H rows, W columns, K statistics.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.samples.kernel_cache import compiled

Fields = NDArray[Any]
"""float32, or float64 where a variable needs it."""

SUMS = (
    "weight",
    "forecast",
    "truth",
    "error",
    "absolute_error",
    "squared_error",
    "absolute_truth",
    "squared_forecast",
    "squared_truth",
    "product",
    "normalised_error",
    "normalised_truth",
)
"""Weighted sums over the valid points; absolute and squared errors are infinite where a forecast isn't a number."""
MAXIMA = ("max_absolute_error",)
MOMENTS = (
    "reference_forecast",
    "offset_forecast",
    "reference_truth",
    "offset_truth",
    "centred_squared_forecast",
    "centred_squared_truth",
    "centred_product",
)
"""As `centred_moments` defines them; their weight is that of the sums."""
STATISTICS = (*SUMS, *MAXIMA, *MOMENTS)
_LINE = 1024
"""Points of a line at most. Adding up the lanes of vector registers at its end takes as long as 50 points do."""


def point_sums(forecast_NHW: Fields, truth_NHW: Fields, weights_HW: Floats, scales_N2: Floats) -> Floats:
    """(N, K) the `STATISTICS` of each field, over the points where there is a truth and a weight.

    Args:
        forecast_NHW: fields; a value that isn't finite is an infinite error.
        truth_NHW: fields, NaN where missing.
        weights_HW: of the points; 0 leaves one out.
        scales_N2: mean and deviation of each field, for the normalised errors.
    """
    out_NK = np.empty((len(forecast_NHW), len(STATISTICS)))
    lines = len(weights_HW) // _rows_together(*weights_HW.shape)
    fields = (one.reshape(len(one), lines, -1) for one in (forecast_NHW, truth_NHW))
    _reduce_fields(*fields, np.ascontiguousarray(weights_HW.reshape(lines, -1)), scales_N2, out_NK)
    return out_NK


def _rows_together(rows: int, columns: int) -> int:
    """How many rows are summed as one line: several where they are short."""
    return max(one for one in range(1, rows + 1) if rows % one == 0 and (one * columns <= _LINE or one == 1))


def _compiled(function: Any) -> Any:
    return compiled(function, reorder_sums=True)


@_compiled
def _reduce_fields(
    p_NHW: Fields, t_NHW: Fields, weights_HW: Floats, scales_N2: Floats, out_NK: Floats
) -> None:
    num_rows, num_columns = weights_HW.shape
    error_W, largest = np.empty(num_columns), np.zeros(1)
    p_W, t_W, w_W = np.empty(num_columns), np.empty(num_columns), np.empty(num_columns)
    # The bits of numbers that aren't negative are in the order of the numbers: a maximum of integers is compiled to
    # vector instructions, one of floats, which NaN puts in no order, is not.
    bits_W = error_W.view(np.int64)
    for n in range(len(p_NHW)):
        p_HW, t_HW, out_K = p_NHW[n], t_NHW[n], out_NK[n]
        out_K[:] = 0.0
        # Sums are taken line by line: that of a million points would lose four digits to rounding.
        for y in range(num_rows):
            _clean(p_HW[y], t_HW[y], weights_HW[y], p_W, t_W, w_W)
            _add(out_K, 0, _means(p_W, t_W, w_W))
        total = out_K[0] if out_K[0] > 0.0 else 1.0
        reference_p, reference_t = out_K[1] / total, out_K[2] / total
        most = np.int64(0)
        for y in range(num_rows):
            # Once for all loops over the line, which each would spend as long on it as on their sums.
            _clean(p_HW[y], t_HW[y], weights_HW[y], p_W, t_W, w_W)
            _add(out_K, 3, _errors(p_W, t_W, w_W, error_W))
            most = max(most, _largest(bits_W))
            _add(out_K, 6, _products(p_W, t_W, w_W, scales_N2[n, 0]))
            _add(out_K, 15, _deviations(p_W, t_W, w_W, reference_p, reference_t))
        largest.view(np.int64)[0] = most
        out_K[11], out_K[10] = out_K[10] / scales_N2[n, 1], out_K[4] / scales_N2[n, 1]
        _centre(out_K, total, reference_p, reference_t)
        out_K[12] = largest[0]


@_compiled
def _add(out_K: Floats, first: int, sums: tuple[float, ...]) -> None:
    for k, value in enumerate(sums):
        out_K[first + k] += value


@_compiled
def _clean(
    from_p_W: Fields, from_t_W: Fields, from_w_W: Floats, p_W: Floats, t_W: Floats, w_W: Floats
) -> None:
    """Forecast, truth and weight of points: all zero where one doesn't count, NaN where the forecast failed."""
    for x in range(len(w_W)):
        p, t, w = np.float64(from_p_W[x]), np.float64(from_t_W[x]), from_w_W[x]
        valid = (t == t) & (w != 0.0)
        known = p if abs(p) < np.inf else np.nan
        p_W[x] = known if valid else 0.0
        t_W[x] = t if valid else 0.0
        w_W[x] = w if valid else 0.0


@_compiled
def _means(p_W: Floats, t_W: Floats, w_W: Floats) -> tuple[float, ...]:
    total = sum_p = sum_t = 0.0
    for x in range(len(w_W)):
        total += w_W[x]
        sum_p += w_W[x] * p_W[x]
        sum_t += w_W[x] * t_W[x]
    return total, sum_p, sum_t


@_compiled
def _errors(p_W: Floats, t_W: Floats, w_W: Floats, error_W: Floats) -> tuple[float, ...]:
    error = absolute = squared = 0.0
    for x in range(len(w_W)):
        w, e = w_W[x], p_W[x] - t_W[x]
        size, square = abs(e), e * e
        size = size if size == size else np.inf
        square = square if square == square else np.inf
        error_W[x] = size
        error += w * e
        absolute += w * size if w != 0.0 else 0.0
        squared += w * square if w != 0.0 else 0.0
    return error, absolute, squared


@_compiled
def _largest(bits_W: Ints) -> np.int64:
    most = np.int64(0)
    for x in range(len(bits_W)):
        most = bits_W[x] if bits_W[x] > most else most
    return most


@_compiled
def _products(p_W: Floats, t_W: Floats, w_W: Floats, mean: float) -> tuple[float, ...]:
    size = pp = tt = pt = normalised = 0.0
    for x in range(len(w_W)):
        p, t, w = p_W[x], t_W[x], w_W[x]
        size += w * abs(t)
        pp += w * (p * p)
        tt += w * (t * t)
        pt += w * (p * t)
        normalised += w * abs(t - mean)
    return size, pp, tt, pt, normalised


@_compiled
def _deviations(p_W: Floats, t_W: Floats, w_W: Floats, mean_p: float, mean_t: float) -> tuple[float, ...]:
    sum_p = sum_t = pp = tt = pt = 0.0
    for x in range(len(w_W)):
        p, t, w = p_W[x] - mean_p, t_W[x] - mean_t, w_W[x]
        sum_p += w * p
        sum_t += w * t
        pp += w * (p * p)
        tt += w * (t * t)
        pt += w * (p * t)
    return sum_p, sum_t, pp, tt, pt


@_compiled
def _centre(out_K: Floats, total: float, reference_p: float, reference_t: float) -> None:
    """Turn sums of deviations from the references into offsets, and sums about the means."""
    p, t = out_K[15] / total, out_K[16] / total
    # The offsets are what rounding left of the references: nothing cancels here.
    out_K[17] -= total * p * p
    out_K[18] -= total * t * t
    out_K[19] -= total * p * t
    out_K[13], out_K[14], out_K[15], out_K[16] = reference_p, p, reference_t, t
