"""Scores of forecasts: statistics accumulated chunk by chunk, and the metrics made of their sums.

Every metric is (*samples, lead_time, group): reductions over samples are the caller's, by
`over_samples` on the result or `Sums.pooled` before. e = forecast − truth, t = truth, ⟨·⟩ the mean over
the points of a group with the grid's area weights. Points where the truth is missing don't count; a
forecast that isn't a number where the truth exists has an infinite error, so failing is never cheap.
A ratio whose denominator is zero is undefined: NaN.

Definitions follow the papers and codes named below, with their eps, centring and ddof as arguments.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation.aggregate import WEIGHT, Sums, ratio
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
from pelagos.evaluation.point_sums import MAXIMA, MOMENTS, STATISTICS, point_sums
from pelagos.preprocessing.errors import DataError

Array = NDArray[np.float64]
Values = NDArray[Any]
Statistic = Callable[[Array, Array], Array]

NORMALISED = ("normalised_error", "normalised_truth")
"""Statistics that `accumulate` adds where it is given scales."""
ANOMALY = "anomaly_"
ANOMALIES = ("weight", "forecast", "truth", "squared_forecast", "squared_truth", "product")
"""What is summed of anomalies, besides their moments."""


def accumulate(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    *,
    climatology: xr.Dataset | None = None,
    weights: xr.DataArray | None = None,
    statistics: Mapping[str, Statistic] = MappingProxyType({}),
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
        statistics: pointwise functions of forecast and truth, NaN where missing, beyond those of `point_sums`; nothing
            else has to change for a new one.
        scales: mean and deviation of each variable, for `normalised_relative_l1`.

    Raises DataError where forecast and truth don't match.
    """
    check_pair(forecast, truth)
    area = np.asarray(grid_of(truth).area_weights() if weights is None else weights.transpose(*SPACE))
    parts: dict[str, dict[str, Array]] = {}
    dims: tuple[Hashable, ...] = ()
    for name in variable_names(forecast):
        field = ordered_fields(forecast[[name]])[name]
        if field.dims != (dims := dims or field.dims):
            raise DataError(
                f"the variables of a forecast must have the same dimensions: {dims}, {field.dims}"
            )
        shape = [field.sizes[dim] for dim in dims[:-2]]
        found: dict[str, list[Array]] = {}
        for p, t, c in _samples(field, truth, climatology, name):
            sums = _sums(p, t, c, area, scales[name] if scales else (0.0, 1.0))
            sums |= {key: _weighted(statistic, p, t, area) for key, statistic in statistics.items()}
            for key, values in sums.items():
                found.setdefault(key, []).append(values)
        parts[name] = {key: np.stack(value).reshape(shape) for key, value in found.items()}
    labels = {str(dim): forecast[dim].variable for dim in dims[:-2]}
    state = _labelled(parts, labels)
    left_out = NORMALISED if scales is None else ()
    moments = [key for key in state if str(key).removeprefix(ANOMALY) in (WEIGHT, *MOMENTS)]
    others = (*MAXIMA, *left_out, *(key for key in moments if not str(key).endswith(WEIGHT)))
    summed = [key for key in state if key not in others]
    return Sums(state[summed], state[[*MAXIMA]], group_by_variable(truth[list(parts)]), state[moments])


def _labelled(parts: Mapping[str, Mapping[str, Array]], labels: Mapping[str, xr.Variable]) -> xr.Dataset:
    """(*samples, lead_time, variable) each statistic of all variables."""
    dims = (*labels, "variable")
    arrays = {
        key: (dims, np.stack([part[key] for part in parts.values()], axis=-1))
        for key in next(iter(parts.values()))
    }
    return xr.Dataset(arrays, {"variable": list(parts), **labels})


def _samples(
    field: xr.DataArray, truth: xr.Dataset, climatology: xr.Dataset | None, name: str
) -> Iterator[tuple[Values, Values, Values | None]]:
    """Forecast, truth and climatology of one sample after the other, (lead_time, y, x) each."""
    dims = sample_dims(field)
    # Variables, since an index of coordinates for each sample takes longer than all sums of a small field.
    p, t = field.variable, truth[name].variable
    c = None if climatology is None else climatology[name].variable
    for index in np.ndindex(*(field.sizes[dim] for dim in dims)):
        chosen = dict(zip(dims, index, strict=True))
        shape = field.shape[-3:]
        yield (
            _values(p, chosen, shape),
            _values(t, chosen, shape),
            None if c is None else _values(c, chosen, shape),
        )


def _values(field: xr.Variable, chosen: dict[str, int], shape: tuple[int, ...]) -> Values:
    values = (
        field.isel(chosen, missing_dims="ignore").transpose(LEAD_TIME, *SPACE, missing_dims="ignore").values
    )
    values = values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
    return np.ascontiguousarray(np.broadcast_to(values, shape))


def _sums(
    p: Values, t: Values, c: Values | None, weights: Array, scale: tuple[float, float]
) -> dict[str, Array]:
    """Statistic -> (lead_time,) over the valid points."""
    scales = np.tile(np.array(scale), (len(p), 1))
    sums = dict(zip(STATISTICS, point_sums(p, t, weights, scales).T, strict=True))
    if c is None:
        return sums
    with np.errstate(over="ignore", invalid="ignore"):  # forecasts that blew up
        p, t = (values.astype(np.float64) - c for values in (p, t))
        found = dict(zip(STATISTICS, point_sums(p, t, weights, scales).T, strict=True))
    return sums | {ANOMALY + key: found[key] for key in (*ANOMALIES, *MOMENTS)}


def _weighted(statistic: Statistic, p: Values, t: Values, weights: Array) -> Array:
    finite = np.where(np.isfinite(p), p, np.nan).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        values = statistic(finite, t.astype(np.float64))
    return np.asarray(np.einsum("tyx,yx->t", np.where(np.isnan(t), 0.0, values), weights))


def relative_l1(sums: Sums, floor: float = 0.0) -> xr.DataArray:
    """Σ|e| / Σ|t| over points and variables of a group, Σ|t| at least `floor` (Poseidon: 1e-10)."""
    return ratio(sums.sum("absolute_error"), sums.sum("absolute_truth").clip(min=floor))


def normalised_relative_l1(sums: Sums, floor: float = 0.0) -> xr.DataArray:
    """Relative L1 error of (field − mean) / std, which an offset such as 273 K doesn't flatter.

    Poseidon's score, up to its floor of 1e-10. Needs `accumulate` with scales.
    """
    error, size = NORMALISED
    return ratio(sums.sum(error), sums.sum(size).clip(min=floor))


def relative_l2(sums: Sums, floor: float = 0.0) -> xr.DataArray:
    """√Σe² / √Σt² over points and variables of a group, √Σt² at least `floor`."""
    return ratio(sums.sum("squared_error") ** 0.5, (sums.sum("squared_truth") ** 0.5).clip(min=floor))


def nrmse(sums: Sums, eps: float = 0.0) -> xr.DataArray:
    """√(⟨e²⟩ / (⟨t²⟩ + eps)); PDEBench has eps 0, The Well and MPP 1e-7, on normalised fields."""
    return ratio(sums.mean("squared_error"), sums.mean("squared_truth") + eps) ** 0.5


def vrmse(sums: Sums, eps: float = 0.0, ddof: int = 1) -> xr.DataArray:
    """√(⟨e²⟩ / (var t + eps)), each variable's variance about its own mean over space.

    The Well and Walrus have ddof 1 and eps 1e-7.
    """
    weight = sums.sums[WEIGHT]
    squares = sums.central("squared_truth")
    variance = squares / (weight - ddof).where(weight > ddof)
    mean_variance = sums.grouped(variance) / sums.grouped(xr.ones_like(weight))
    return ratio(sums.mean("squared_error"), mean_variance + eps) ** 0.5


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
    found = ratio(second("product"), pp**0.5 * tt**0.5)
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
