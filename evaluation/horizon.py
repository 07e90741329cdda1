"""Horizon: how long forecasts stay good, read off a score of each forecast over lead time.

Shapes: S samples, L lead times. A horizon that lies beyond the last lead time is infinite, not the last lead time: the
forecasts were too short to tell. Lead times without a score (NaN) count neither way.
"""

from typing import Literal

import numpy as np

from pelagos.evaluation.conventions.score_reduction import over_samples
from pelagos.evaluation.inference.estimate import Estimate, interval
from pelagos.preprocessing.array_types import Flags, Floats


def correlation_horizon(correlation_SL: Floats, lead_times: Floats, threshold: float = 0.95) -> Floats:
    """(S,) the first lead time at which the correlation is below a threshold.

    Kochkov et al. (2021) take 0.95 of vorticity, averaged over samples first; PDE-Refiner (Lippe et al., 2023) 0.8.
    """
    return first_time(correlation_SL < threshold, lead_times, ~np.isnan(correlation_SL))


def valid_time(error_SL: Floats, lead_times: Floats, threshold: float = 0.4) -> Floats:
    """(S,) the first lead time at which the error is above a threshold, in deviations of the field.

    Valid prediction time; Pathak et al. (2018) take 0.4 of the normalised error.
    """
    return first_time(error_SL > threshold, lead_times, ~np.isnan(error_SL))


def skill_horizon(error_SL: Floats, baseline_SL: Floats, lead_times: Floats) -> Floats:
    """(S,) the first lead time at which the error is not below that of a baseline."""
    known = ~np.isnan(error_SL) & ~np.isnan(baseline_SL)
    return first_time(error_SL >= baseline_SL, lead_times, known)


def blow_up_time(rms_SL: Floats, reference_SL: Floats, lead_times: Floats, factor: float = 10.0) -> Floats:
    """(S,) the first lead time at which a forecast is not a number, or larger by a factor than the truth.

    Args:
        rms_SL: root mean square of the normalised forecast; inf or NaN where it failed.
        reference_SL: of the truth; NaN where there is none.
        lead_times: (L,).
        factor: how much larger; of a reference no smaller than one deviation, as a field at rest says nothing.
    """
    beyond = ~(rms_SL <= factor * np.maximum(reference_SL, 1.0))
    return first_time(beyond, lead_times, ~np.isnan(reference_SL))


def first_time(reached_SL: Flags, lead_times: Floats, known_SL: Flags) -> Floats:
    """(S,) the first lead time at which something is so; inf where it never is, NaN where nothing is known."""
    times = np.where(reached_SL & known_SL, lead_times, np.inf).min(axis=1, initial=np.inf)
    return np.where(known_SL.any(axis=1), times, np.nan)


def horizon_estimate(
    times_S: Floats, counts_BS: Floats, failed_S: Flags, how: Literal["median", "share"] = "median"
) -> Estimate:
    """The median horizon, or the share of forecasts that reached theirs, with its interval.

    A median is infinite where half of the forecasts are still good at the last lead time.

    Args:
        times_S: of each forecast.
        counts_BS: how often each forecast counts, see `draw_counts`.
        failed_S: which forecasts are not numbers somewhere.
        how: what is computed.
    """
    known = ~np.isnan(times_S)
    if how == "share":
        drawn = counts_BS @ (known & np.isfinite(times_S)).astype(np.float64)
        number = counts_BS @ known.astype(np.float64)
        values = np.where(number > 0, drawn / np.maximum(number, 1), np.nan)
    else:
        values = over_samples(times_S, counts_BS, "median")
    low, high = (float(end) for end in interval(values[1:]))
    return Estimate(float(values[0]), low, high, int(known.sum()), int(failed_S.sum()))
