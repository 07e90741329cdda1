"""Dataset scores: a forecast held against the truth by a benchmark's convention, both as datasets in memory.

Shapes: S samples, L lead times, V variables, H rows, W columns.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.convention_scores import ConventionScores
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_convention import CONVENTIONS, Convention, ConventionName
from pelagos.evaluation.forecast_schema import (
    LEAD_TIME,
    SPACE,
    check_pair,
    grid_of,
    group_by_variable,
    sample_dims,
    variable_names,
)
from pelagos.evaluation.frame_sums.edge_sums import edge_sums
from pelagos.evaluation.frame_sums.quadrant_power import quadrant_power
from pelagos.evaluation.point_sums import STATISTICS, point_sums
from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.errors import ConfigError, DataError

_FORECAST = "forecast"


def score(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    convention: ConventionName = "the_well",
    *,
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    """The scores of a forecast by a benchmark's convention, with 95 % intervals over trajectories.

    A point counts where the truth has a value; a forecast that is no number there has failed, which is counted beside
    each score.

    Args:
        forecast: fields (..., lead_time, y, x); all other dimensions are samples.
        truth: the same fields with the same coordinates.
        convention: poseidon, pdebench, the_well, apebench, mpp, weatherbench2 or weatherbenchX.
        scales: mean and deviation of each variable over the training data, for conventions that compare normalised
            fields.

    Returns:
        `scores`: by name the value, its interval (`low`, `high`), `n` forecasts and how many `failed`, with groups and
        the curve over `lead_times`; `without`: scores that need what is not there; and what the convention says of
        itself.

    Raises:
        DataError: the two cannot be compared.
        ConfigError: there is no such convention, or it needs scales.
    """
    if convention not in CONVENTIONS:
        raise ConfigError(f"convention must be one of {', '.join(CONVENTIONS)}, not {convention!r}")
    chosen = CONVENTIONS[convention]
    if chosen.fields == "normalised" and scales is None:
        raise ConfigError(
            f"the convention {convention} compares normalised fields: give scales={{NAME: (mean, deviation)}} of the"
            " training data"
        )
    forecast, truth = _counted(forecast), _counted(truth)
    if "member" in forecast.dims:
        raise DataError("the forecast is an ensemble: score a member, or the mean, or use `pelagos evaluate`")
    check_pair(forecast, truth)
    statistics = _statistics(forecast, truth, chosen, scales)
    members, samples = _clusters(forecast), {_FORECAST: statistics}
    found = ConventionScores.of(samples, members, np.zeros_like(members), 1).by_convention(convention)
    return {**found, **found.pop("methods")[_FORECAST], "lead_times": truth[LEAD_TIME].values.tolist()}


def _counted(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with durations in seconds in place of those that xarray decodes."""
    if LEAD_TIME not in dataset.coords or dataset[LEAD_TIME].dtype.kind != "m":
        return dataset
    seconds = dataset[LEAD_TIME].values / np.timedelta64(1, "s")
    return dataset.assign_coords({LEAD_TIME: (LEAD_TIME, seconds, {"units": "s"})})


def _clusters(forecast: xr.Dataset) -> Ints:
    """(S,) which samples fail and succeed together: those of a trajectory; each alone where there are none."""
    dims = sample_dims(forecast)
    sizes = [forecast.sizes[dim] for dim in dims]
    numbers = np.arange(int(np.prod(sizes, dtype=np.int64))).reshape(sizes)
    if "trajectory" not in dims:
        return numbers.ravel()
    axis = dims.index("trajectory")
    ordered = np.arange(sizes[axis]).reshape([-1 if place == axis else 1 for place in range(len(sizes))])
    return np.broadcast_to(ordered, sizes).ravel().astype(np.int64)


def _statistics(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    convention: Convention,
    scales: Mapping[str, tuple[float, float]] | None,
) -> SampleStatistics:
    names, group = variable_names(forecast), group_by_variable(truth)
    weights_HW = np.ones([truth.sizes[dim] for dim in SPACE])
    if convention.points == "cell areas":
        weights_HW = grid_of(truth).area_weights()
    by_variable = [
        _sums(
            _fields(forecast[name], forecast),
            _fields(truth[name], forecast),
            weights_HW,
            _scale(name, scales),
        )
        for name in names
    ]
    arrays = {key: np.stack([sums[key] for sums in by_variable], axis=2) for key in by_variable[0]}
    return SampleStatistics(arrays, {name: group[name] for name in names}, truth[LEAD_TIME].values)


def _scale(name: str, scales: Mapping[str, tuple[float, float]] | None) -> tuple[float, float]:
    if scales is None:
        return 0.0, 1.0
    if name not in scales:
        raise ConfigError(f"scales has no {name}; it has {', '.join(scales) or 'nothing'}")
    return scales[name]


def _fields(field: xr.DataArray, forecast: xr.Dataset) -> Floats:
    """(S, L, H, W) one variable."""
    ordered = field.transpose(*sample_dims(forecast), LEAD_TIME, *SPACE).values
    return ordered.reshape(-1, *ordered.shape[-3:]).astype(np.float64)


def _sums(
    p_SLHW: Floats, t_SLHW: Floats, weights_HW: Floats, scale: tuple[float, float]
) -> dict[str, Floats]:
    """(S, L, ...) what scores are made of."""
    shape = p_SLHW.shape[:2]
    p_NHW, t_NHW = (one.reshape(-1, *one.shape[2:]) for one in (p_SLHW, t_SLHW))
    points = point_sums(p_NHW, t_NHW, weights_HW, np.tile(scale, (len(p_NHW), 1)))
    found = dict(zip(STATISTICS, points.T, strict=True))
    found |= edge_sums(p_NHW, t_NHW) | quadrant_power(p_NHW, t_NHW)
    return {name: values.reshape(*shape, *values.shape[1:]) for name, values in found.items()}
