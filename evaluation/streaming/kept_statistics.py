"""Kept statistics: what scores.zarr holds of a method, as the statistics that conventions and horizons are made of."""

import math

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.forecast_schema import LEAD_TIME
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.preprocessing.array_types import Floats, Ints

SAMPLES = ("trajectory", "start", "member")


def sample_statistics(kept: xr.Dataset, region: str = WHOLE) -> SampleStatistics:
    """The statistics of each forecast, members after each other, over one region; extra ones over the whole domain."""
    points = _by_sample(kept["points"].sel(region=region))
    arrays = {name: points[..., place] for place, name in enumerate(kept["statistic"].values.tolist())}
    extra = _by_sample(kept["extra"])
    labels = [str(label).partition("[")[0] for label in kept["entry"].values]
    for name in dict.fromkeys(labels):
        places = [place for place, label in enumerate(labels) if label == name]
        values = extra[..., places]
        # What could not be had of this grid or these times was not gathered.
        if not np.isnan(values).all():
            arrays[name] = values if f"{name}[0]" in kept["entry"].values else values[..., 0]
    group = dict(zip(kept["variable"].values.tolist(), kept["group"].values.tolist(), strict=True))
    return SampleStatistics(arrays, group, kept[LEAD_TIME].values.astype(np.float64))


def sample_axes(kept: xr.Dataset) -> tuple[Ints, Ints]:
    """(S,) the trajectory and the start frame of each forecast."""
    dims = [dim for dim in SAMPLES if dim in kept["done"].dims]
    grids = np.meshgrid(*(kept[dim].values for dim in dims), indexing="ij")
    return grids[0].ravel().astype(np.int64), grids[1].ravel().astype(np.int64)


def _by_sample(array: xr.DataArray) -> Floats:
    """(S, L, V, K) of an array over trajectories, starts, members, lead times, variables and something."""
    dims = [dim for dim in SAMPLES if dim in array.dims]
    values = array.transpose(*dims, LEAD_TIME, "variable", ...).values
    samples = math.prod(values.shape[: len(dims)])
    return np.asarray(values.reshape(samples, *values.shape[len(dims) :]), np.float64)


def by_ensemble(statistics: SampleStatistics, members: int) -> SampleStatistics:
    """One sample for each ensemble: its sums, which all of its members have, and the largest error of any."""
    arrays = {name: array[::members] for name, array in statistics.arrays.items()}
    errors = statistics.array("max_absolute_error")
    arrays["max_absolute_error"] = errors.reshape(-1, members, *errors.shape[1:]).max(axis=1)
    return SampleStatistics(arrays, statistics.group, statistics.lead_times)
