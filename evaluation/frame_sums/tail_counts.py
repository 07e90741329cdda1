"""Tail counts: how often forecast and truth exceed thresholds, and the quantiles of a frame.

Each threshold is an event with a two by two table (hits, false alarms, misses, correct rejections), from which the
usual scores of rare events follow (Wilks, Statistical Methods in the Atmospheric Sciences, 8.2); tables add up.
"""

import numpy as np

from pelagos.preprocessing.array_types import Floats

STATISTICS = ("hits", "false_alarms", "misses", "correct_rejections")
QUANTILES = ("quantiles_forecast", "quantiles_truth")


def tail_counts(
    forecast_NHW: Floats, truth_NHW: Floats, thresholds_NK: Floats, weights_HW: Floats
) -> dict[str, Floats]:
    """(N, K) weights of the points in each cell of the table of each threshold.

    Points without a truth don't count. A forecast that is not a number misses an event and raises a false alarm
    otherwise: it is wrong whatever happened.

    Args:
        forecast_NHW: fields.
        truth_NHW: fields.
        thresholds_NK: of each field; an event is a value above.
        weights_HW: of the points.
    """
    valid, finite = ~np.isnan(truth_NHW), np.isfinite(forecast_NHW)
    tables = []
    for threshold in thresholds_NK.T:
        happened = truth_NHW > threshold[:, None, None]
        said = np.where(finite, forecast_NHW > threshold[:, None, None], ~happened)
        cells = (said & happened, said & ~happened, ~said & happened, ~said & ~happened)
        tables.append([np.einsum("nyx,yx->n", cell & valid, weights_HW) for cell in cells])
    stacked = np.array(tables, np.float64).reshape(len(thresholds_NK.T), len(STATISTICS), len(truth_NHW))
    return {name: stacked[:, cell].T for cell, name in enumerate(STATISTICS)}


def frame_quantiles(forecast_NHW: Floats, truth_NHW: Floats, shares: tuple[float, ...]) -> dict[str, Floats]:
    """(N, K) quantiles over the points that have a truth; NaN where there is none, inf where a forecast failed."""
    found = {name: np.full((len(truth_NHW), len(shares)), np.nan) for name in QUANTILES}
    for n, (forecast, truth) in enumerate(zip(forecast_NHW, truth_NHW, strict=True)):
        valid = ~np.isnan(truth)
        if not valid.any():
            continue
        found["quantiles_truth"][n] = np.quantile(truth[valid].astype(np.float64), shares)
        points = forecast[valid].astype(np.float64)
        found["quantiles_forecast"][n] = np.quantile(points, shares) if np.isfinite(points).all() else np.inf
    return found
