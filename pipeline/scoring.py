"""From forecasts and truth to the numbers that a person compares."""

from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.aggregate import Sums


def summary(sums: Sums) -> dict[str, Any]:
    """The scores of one method.

    `one_step` and `rollout` are medians over samples of the relative L1 error, averaged over variable
    groups; `one_step` at the first lead time, `rollout` averaged over all. `by_lead_time` holds that
    curve. `pooled_relative_l2` takes all forecasts and fields together, which makes sense where their
    units agree. `groups` holds for each variable group the curve, and errors pooled over all samples, whose
    root is taken last.
    """
    relative = scores.over_samples(scores.relative_l1(sums), "median")
    curve = relative.mean("group").values
    return {
        "one_step": float(curve[0]),
        "rollout": float(np.mean(curve)),
        "by_lead_time": curve.tolist(),
        "pooled_relative_l2": _pooled(sums),
        "groups": {str(group): _group(sums, relative, str(group)) for group in relative["group"].values},
    }


def _pooled(sums: Sums) -> list[float]:
    """√Σe² / √Σt² over all forecasts, points and variables: one number for fields of one unit."""
    dims = [str(dim) for dim in sums.sums.dims if dim != "lead_time"]
    squares = sums.sums[["squared_error", "squared_truth"]].sum(dims)
    ratio = squares["squared_error"] / squares["squared_truth"]
    return [float(value) for value in np.sqrt(ratio.values)]


def _group(sums: Sums, relative: xr.DataArray, group: str) -> dict[str, list[float]]:
    pooled = sums.pooled(*[str(dim) for dim in sums.sums.dims if dim not in ("lead_time", "variable")])
    return {
        "relative_l1": relative.sel(group=group).values.tolist(),
        "pooled_relative_l2": scores.relative_l2(pooled).sel(group=group).values.tolist(),
        "rmse": scores.rmse(pooled).sel(group=group).values.tolist(),
        "bias": scores.bias(pooled).sel(group=group).values.tolist(),
    }
