"""Scores of forecasts: statistics accumulated chunk by chunk, and the metrics made of their sums.

Every metric is (*samples, lead_time, group): reductions over samples are the caller's, by
`over_samples` on the result or `Sums.pooled` before. e = forecast − truth, t = truth, ⟨·⟩ the mean over
the points of a group with the grid's area weights. Points where the truth is missing don't count; a
forecast that isn't a number where the truth exists has an infinite error, so failing is never cheap.
A ratio whose denominator is zero is undefined: NaN.

Definitions follow the papers and codes named below, with their eps, centring and ddof as arguments.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation.aggregate import WEIGHT, Sums
from pelagos.evaluation.centred_moments import centred_moments
from pelagos.evaluation.forecast_schema import (
    LEAD_TIME,
    SPACE,
    check_pair,
    grid_of,
    group_by_variable,
    ordered_fields,
    sample_dims,
    variable_names,
)

Array = NDArray[np.float64]
Statistic = Callable[[Array, Array], Array]

ERRORS: dict[str, Statistic] = {
    "absolute_error": lambda p, t: np.abs(p - t),
    "squared_error": lambda p, t: (p - t) ** 2,
}
"""Infinite where the forecast isn't a number."""

MOMENTS: dict[str, Statistic] = {
    "forecast": lambda p, t: p,
    "truth": lambda p, t: t,
    "squared_forecast": lambda p, t: p**2,
    "squared_truth": lambda p, t: t**2,
    "product": lambda p, t: p * t,
}

NORMALISED = ("normalised_error", "normalised_truth")
"""Statistics that `accumulate` adds where it is given scales."""

STATISTICS: dict[str, Statistic] = {
    "error": lambda p, t: p - t,
    "absolute_truth": lambda p, t: np.abs(t),
    **ERRORS,
    **MOMENTS,
}
ANOMALY = "anomaly_"
_MOMENT = "moment_"


def accumulate(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    *,
    climatology: xr.Dataset | None = None,
    weights: xr.DataArray | None = None,
    statistics: Mapping[str, Statistic] = STATISTICS,
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> Sums:
    """The sums of a chunk's statistics; fields are read one variable and one sample at a time.

    Args:
        forecast: (*samples, lead_time, y, x) fields; may have more sample dimensions than the truth.
        truth: (*samples, lead_time, y, x) fields, NaN where missing.
        climatology: what anomalies are relative to, of the truth's dimensions or fewer; where it is missing,
            so are anomalies.
        weights: (y, x), by default the cell areas over their mean. A chunk of a latitude-longitude
            grid needs its part of the whole grid's weights.
        statistics: pointwise functions of forecast and truth; nothing else has to change for a new one.
        scales: mean and deviation of each variable, for `normalised_relative_l1`.

    Raises DataError where forecast and truth don't match.
    """
    check_pair(forecast, truth)
    area = np.asarray(grid_of(truth).area_weights() if weights is None else weights.transpose(*SPACE))
    parts = {}
    for name in variable_names(forecast):
        dims = ordered_fields(forecast[[name]])[name].dims
        own = {**statistics, **(_normalised(*scales[name]) if scales else {})}
        sums = [_sums(p, t, c, area, own) for p, t, c in _samples(forecast, truth, climatology, name)]
        shape = [forecast.sizes[dim] for dim in dims[:-2]]
        arrays = {key: np.stack([part[key] for part in sums]).reshape(shape) for key in sums[0]}
        parts[name] = xr.Dataset({key: (dims[:-2], value) for key, value in arrays.items()})
    state = xr.concat(parts.values(), dim=xr.Variable("variable", list(parts))).transpose(..., "variable")
    state = state.assign_coords({dim: forecast[dim].variable for dim in dims[:-2]})
    maximum, moments = ["max_absolute_error"], [name for name in variable_names(state) if _MOMENT in name]
    return Sums(
        state.drop_vars([*maximum, *moments]),
        state[maximum],
        group_by_variable(truth[list(parts)]),
        state[moments].rename({name: name.removeprefix(_MOMENT) for name in moments}),
    )


def _normalised(mean: float, std: float) -> dict[str, Statistic]:
    """Statistics of (field − mean) / std."""
    error, size = NORMALISED
    return {error: lambda p, t: np.abs(p - t) / std, size: lambda p, t: np.abs(t - mean) / std}


def _samples(
    forecast: xr.Dataset, truth: xr.Dataset, climatology: xr.Dataset | None, name: str
) -> Iterator[tuple[Array, Array, Array | None]]:
    """Forecast, truth and climatology of one sample after the other, (lead_time, y, x) float64 each."""
    p = ordered_fields(forecast[[name]])[name]
    dims = sample_dims(p)
    for index in np.ndindex(*(p.sizes[dim] for dim in dims)):
        chosen = dict(zip(dims, index, strict=True))
        yield (
            _values(p, chosen, p),
            _values(truth[name], chosen, p),
            None if climatology is None else _values(climatology[name], chosen, p),
        )


def _values(array: xr.DataArray, chosen: dict[str, int], like: xr.DataArray) -> Array:
    field = array.isel(chosen, missing_dims="ignore").transpose("lead_time", "y", "x", missing_dims="ignore")
    shape = tuple(like.sizes[dim] for dim in ("lead_time", "y", "x"))
    return np.broadcast_to(field.values.astype(np.float64), shape)


def _sums(
    p: Array, t: Array, climatology: Array | None, weights: Array, statistics: Mapping[str, Statistic]
) -> dict[str, Array]:
    """Statistic -> (lead_time,) weighted sum over the valid points."""
    p = np.where(np.isfinite(p), p, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # a forecast that blew up scores inf or nan
        sums = _weighted(p, t, weights, statistics)
        if statistics.keys() >= MOMENTS.keys():
            sums |= _moments(p, t, weights, "")
        if climatology is not None:
            anomalies = _weighted(p - climatology, t - climatology, weights, MOMENTS)
            sums |= {ANOMALY + key: value for key, value in anomalies.items()}
            sums |= _moments(p - climatology, t - climatology, weights, ANOMALY)
        error = np.where(np.isnan(p), np.inf, np.abs(p - t))
    return sums | {"max_absolute_error": np.where(np.isnan(t), 0.0, error).max(axis=(-2, -1))}


def _moments(p: Array, t: Array, weights: Array, prefix: str) -> dict[str, Array]:
    return {_MOMENT + prefix + key: value for key, value in centred_moments(p, t, weights).items()}


def _weighted(p: Array, t: Array, weights: Array, statistics: Mapping[str, Statistic]) -> dict[str, Array]:
    valid = ~np.isnan(t)
    sums = {WEIGHT: np.einsum("tyx,yx->t", valid, weights)}
    for key, statistic in statistics.items():
        values = statistic(p, t)
        if key in ERRORS or key == NORMALISED[0]:
            values = np.where(np.isnan(values), np.inf, values)
        sums[key] = np.einsum("tyx,yx->t", np.where(valid, values, 0.0), weights)
    return sums


def relative_l1(sums: Sums, floor: float = 0.0) -> xr.DataArray:
    """Σ|e| / Σ|t| over points and variables of a group, Σ|t| at least `floor` (Poseidon: 1e-10)."""
    return _ratio(sums.sum("absolute_error"), sums.sum("absolute_truth").clip(min=floor))


def normalised_relative_l1(sums: Sums, floor: float = 0.0) -> xr.DataArray:
    """Relative L1 error of (field − mean) / std, which an offset such as 273 K doesn't flatter.

    Poseidon's score, up to its floor of 1e-10. Needs `accumulate` with scales.
    """
    error, size = NORMALISED
    return _ratio(sums.sum(error), sums.sum(size).clip(min=floor))


def relative_l2(sums: Sums, floor: float = 0.0) -> xr.DataArray:
    """√Σe² / √Σt² over points and variables of a group, √Σt² at least `floor`."""
    return _ratio(sums.sum("squared_error") ** 0.5, (sums.sum("squared_truth") ** 0.5).clip(min=floor))


def nrmse(sums: Sums, eps: float = 0.0) -> xr.DataArray:
    """√(⟨e²⟩ / (⟨t²⟩ + eps)); PDEBench has eps 0, The Well and MPP 1e-7, on normalised fields."""
    return _ratio(sums.mean("squared_error"), sums.mean("squared_truth") + eps) ** 0.5


def vrmse(sums: Sums, eps: float = 0.0, ddof: int = 1) -> xr.DataArray:
    """√(⟨e²⟩ / (var t + eps)), each variable's variance about its own mean over space.

    The Well and Walrus have ddof 1 and eps 1e-7.
    """
    weight = sums.sums[WEIGHT]
    squares = sums.central("squared_truth")
    variance = squares / (weight - ddof).where(weight > ddof)
    mean_variance = sums.grouped(variance) / sums.grouped(xr.ones_like(weight))
    return _ratio(sums.mean("squared_error"), mean_variance + eps) ** 0.5


def rmse(sums: Sums) -> xr.DataArray:
    """√⟨e²⟩; a vector's components are averaged, not added (WeatherBench adds: √2 larger)."""
    return sums.mean("squared_error") ** 0.5


def mae(sums: Sums) -> xr.DataArray:
    """⟨|e|⟩."""
    return sums.mean("absolute_error")


def bias(sums: Sums) -> xr.DataArray:
    """⟨e⟩."""
    return sums.mean("error")


def max_error(sums: Sums) -> xr.DataArray:
    """Max |e| over the points and variables of a group."""
    return sums.largest("max_absolute_error").where(sums.sum(WEIGHT) > 0)


def failed(sums: Sums) -> xr.DataArray:
    """Whether a forecast isn't a number somewhere where there is a truth, (*samples, lead_time, group)."""
    return sums.largest("max_absolute_error") == np.inf


def correlation(sums: Sums, *, centred: bool = False, anomalies: bool = False) -> xr.DataArray:
    """⟨pt⟩ / √(⟨p²⟩⟨t²⟩) over points and variables of a group; −inf where the forecast isn't a number.

    Args:
        sums: of `accumulate`.
        centred: whether each variable's mean over space is taken off first.
        anomalies: of forecast − climatology and truth − climatology: with centred=False the anomaly
            correlation of WeatherBench 2; `sums.pooled(...)` before gives WeatherBench-X's.
    """
    prefix = ANOMALY if anomalies else ""

    def second(product: str) -> xr.DataArray:
        return sums.grouped(sums.central(product, prefix)) if centred else sums.sum(prefix + product)

    pp, tt = second("squared_forecast"), second("squared_truth")
    found = _ratio(second("product"), pp**0.5 * tt**0.5)
    # A forecast that isn't a number correlates with nothing; where there is no truth, nothing is known.
    return found.where(np.isfinite(pp) | ~(tt > 0), -np.inf)


def correlation_time(correlation: xr.DataArray, threshold: float = 0.95) -> xr.DataArray:
    """The first lead time at which the correlation is below `threshold`; inf where it never is.

    Lead times without a correlation (NaN: no truth, or a constant) don't count; NaN where there is no other.

    Kochkov et al. (2021) average the correlation of vorticity over samples first and use 0.95,
    PDE-Refiner 0.8: reduce before calling for theirs, after for the mean of the times.
    """
    times = correlation[LEAD_TIME].where(correlation < threshold).min(LEAD_TIME).fillna(np.inf)
    return times.where(correlation.notnull().any(LEAD_TIME))


METRICS: dict[str, Callable[[Sums], xr.DataArray]] = {
    "relative_l1": relative_l1,
    "relative_l2": relative_l2,
    "nrmse": nrmse,
    "vrmse": vrmse,
    "rmse": rmse,
    "mae": mae,
    "bias": bias,
    "max_error": max_error,
    "correlation": correlation,
}


def compute(sums: Sums, metrics: Mapping[str, Callable[[Sums], xr.DataArray]] = METRICS) -> xr.Dataset:
    """All metrics by name, (*samples, lead_time, group)."""
    return xr.Dataset({name: metric(sums) for name, metric in metrics.items()})


def over_samples(metric: xr.DataArray, how: Literal["median", "mean"] = "median") -> xr.DataArray:
    """Reduce the sample dimensions; samples without a valid point (NaN) don't count.

    The median over samples, averaged over groups, of `relative_l1` of normalised fields at the last
    lead time is Poseidon's score.
    """
    dims = sample_dims(metric)
    return metric.median(dims) if how == "median" else metric.mean(dims)


def geometric_mean(metric: xr.DataArray, dim: str = LEAD_TIME) -> xr.DataArray:
    """exp⟨ln metric⟩ over a dimension (APEBench, over at most 100 steps)."""
    mean = metric.copy(data=np.log(metric.values)).mean(dim)
    return mean.copy(data=np.exp(mean.values))


def _ratio(numerator: xr.DataArray, denominator: xr.DataArray) -> xr.DataArray:
    """NaN, that is undefined, where the denominator is zero."""
    return numerator / denominator.where(denominator > 0)
