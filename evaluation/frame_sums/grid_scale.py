"""Grid scale: how much of a field alternates from point to point, as the artefacts of patches and strides do.

Along an axis (a − 4b + 6c − 4d + e)/16 of five neighbours keeps what alternates there, and the same with plus signs
what does not. One along each axis makes three filters, which keep all of the waves (π, 0), (0, π) and (π, π), stripes
and checkerboard, and none of each other's. Of a resolved wave of wavenumber k they keep next to nothing, (kΔ/2)⁸ of
its energy. No transform is made, so boundaries, missing values and uneven axes do no harm.

Shapes: N fields, H rows, W columns.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.samples.kernel_cache import compiled

STATISTICS = ("alternating_forecast", "alternating_truth")
"""Archives of earlier versions may hold `checkerboard_forecast`, of the wave (π, π) alone: that is another score."""
Fields = NDArray[Any]


def grid_scale(
    forecast_NHW: Fields, truth_NHW: Fields, weights_HW: Floats, periodic: tuple[bool, bool]
) -> dict[str, Floats]:
    """(N,) weighted mean square of what alternates along y, along x, or along both, of forecast and truth.

    Points count where there is a truth in all five by five points around them; beyond the last point of an axis that is
    not periodic there is none. A forecast that is not a number where there is a truth has infinite energy.

    Args:
        forecast_NHW: fields.
        truth_NHW: fields, NaN where missing.
        weights_HW: of the points.
        periodic: whether y and x wrap round.
    """
    out_N2 = np.zeros((len(truth_NHW), 2))
    # Nothing varies along an axis of one point, which is as good as periodic.
    wraps = [size == 1 or round_ for size, round_ in zip(weights_HW.shape, periodic, strict=True)]
    _mean_squares(forecast_NHW, truth_NHW, weights_HW, *wraps, out_N2)
    return dict(zip(STATISTICS, out_N2.T, strict=True))


def _compiled(function: Any) -> Any:
    return compiled(function, reorder_sums=True)


@_compiled
def _mean_squares(
    p_NHW: Fields, t_NHW: Fields, weights_HW: Floats, periodic_y: bool, periodic_x: bool, out_N2: Floats
) -> None:
    rows, columns = weights_HW.shape
    # Two points beyond each end of a row; of forecast and truth, what alternates along y and what does not.
    parts = np.empty((4, columns + 4))
    for n in range(len(p_NHW)):
        p_HW, t_HW, failures = p_NHW[n], t_NHW[n], 0
        weight = sum_p = sum_t = 0.0
        for y in range(rows):
            failures += _failures(p_HW[y], t_HW[y])
            if not periodic_y and not 2 <= y < rows - 2:
                continue
            _along_columns(p_HW, y, periodic_x, parts[0], parts[1])
            _along_columns(t_HW, y, periodic_x, parts[2], parts[3])
            of_row, row_p, row_t = _row_squares(parts, weights_HW[y])
            weight, sum_p, sum_t = weight + of_row, sum_p + row_p, sum_t + row_t
        total = weight if weight > 0.0 else 1.0
        out_N2[n, 0], out_N2[n, 1] = np.inf if failures else sum_p / total, sum_t / total


@_compiled
def _failures(p_W: Fields, t_W: Fields) -> int:
    failures = 0
    for x in range(len(p_W)):
        failures += t_W[x] == t_W[x] and not abs(p_W[x]) < np.inf
    return failures


@_compiled
def _along_columns(field_HW: Fields, y: int, periodic: bool, rough: Floats, smooth: Floats) -> None:
    """Fill what alternates along y and what does not; beyond the ends of a row that does not wrap round is no truth."""
    rows, columns = field_HW.shape
    a_W, b_W, c_W = field_HW[(y - 2) % rows], field_HW[(y - 1) % rows], field_HW[y]
    d_W, e_W = field_HW[(y + 1) % rows], field_HW[(y + 2) % rows]
    for x in range(columns):
        odd = 4.0 * (np.float64(b_W[x]) + np.float64(d_W[x]))
        even = np.float64(a_W[x]) + 6.0 * np.float64(c_W[x]) + np.float64(e_W[x])
        rough[x + 2], smooth[x + 2] = (even - odd) / 16.0, (even + odd) / 16.0
    for line in (rough, smooth):
        for beyond in (0, 1, columns + 2, columns + 3):
            line[beyond] = line[(beyond - 2) % columns + 2] if periodic else np.nan


@_compiled
def _row_squares(parts: Floats, weights_W: Floats) -> tuple[float, float, float]:
    """The weight of the points that count in a row, and the sums of their squares of forecast and truth."""
    weight = sum_p = sum_t = 0.0
    for x in range(len(weights_W)):
        p, t = _square(parts[0], parts[1], x), _square(parts[2], parts[3], x)
        # A sum with a missing truth in it is NaN.
        counts = t == t
        weight += weights_W[x] if counts else 0.0
        sum_p += weights_W[x] * p if counts else 0.0
        sum_t += weights_W[x] * t if counts else 0.0
    return weight, sum_p, sum_t


@_compiled
def _square(rough: Floats, smooth: Floats, x: int) -> float:
    """The energy of all three filters at the point two behind position x."""
    odd = 4.0 * (rough[x + 1] + rough[x + 3])
    even = rough[x] + 6.0 * rough[x + 2] + rough[x + 4]
    along_x = smooth[x] - 4.0 * smooth[x + 1] + 6.0 * smooth[x + 2] - 4.0 * smooth[x + 3] + smooth[x + 4]
    return float(((even - odd) ** 2 + (even + odd) ** 2 + along_x**2) / 256.0)
