"""The few numbers by which people compare methods, from the sums of a method's forecasts."""

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.aggregate import Sums


def summarise(sums: Sums) -> dict[str, Any]:
    """The scores of one method.

    `one_step` and `rollout` are medians over samples of the relative L1 error, averaged over variable
    groups; `one_step` at the first lead time, `rollout` averaged over all. `by_lead_time` holds that
    curve. `pooled_relative_l2` takes all forecasts and fields together, which makes sense where their
    units agree. `groups` holds for each variable group the curve, and errors pooled over all samples, whose
    root is taken last.
    """
    relative = scores.over_samples(scores.relative_l1(sums), "median")
    curve = relative.mean("group").values
    pooled = sums.pooled(*[str(dim) for dim in sums.sums.dims if dim not in ("lead_time", "variable")])
    together = replace(pooled, group=dict.fromkeys(pooled.group, "all"))
    return {
        "one_step": float(curve[0]),
        "rollout": float(np.mean(curve)),
        "by_lead_time": curve.tolist(),
        "pooled_relative_l2": scores.relative_l2(together).sel(group="all").values.tolist(),
        "groups": {str(group): _group(pooled, relative, str(group)) for group in relative["group"].values},
    }


def _group(pooled: Sums, relative: xr.DataArray, group: str) -> dict[str, list[float]]:
    return {
        "relative_l1": relative.sel(group=group).values.tolist(),
        "pooled_relative_l2": scores.relative_l2(pooled).sel(group=group).values.tolist(),
        "rmse": scores.rmse(pooled).sel(group=group).values.tolist(),
        "bias": scores.bias(pooled).sel(group=group).values.tolist(),
    }
