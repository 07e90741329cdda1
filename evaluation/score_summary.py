"""The few numbers by which people compare methods, from the sums of a method's forecasts."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.forecast_schema import sample_dims


def summarise(sums: Sums) -> dict[str, Any]:
    """The scores of one method.

    `one_step` and `rollout` are medians over samples of the relative L1 error, averaged over variable
    groups; `one_step` at the first lead time, `rollout` averaged over all. `by_lead_time` holds that
    curve. `normalised` holds the same three of normalised fields, where the sums have them: fields with an
    offset have small relative errors whatever the forecast. `pooled_relative_l2` takes all forecasts and fields
    together, which makes sense where their units agree. `failed` counts the forecasts that aren't numbers
    somewhere, in all and at each lead time: a median doesn't see them until they are half. `groups` holds for
    each variable group the curve, its failures, and errors pooled over all samples, whose root is taken last.
    """
    relative, failed = scores.over_samples(scores.relative_l1(sums), "median"), scores.failed(sums)
    pooled = sums.pooled(*[str(dim) for dim in sums.sums.dims if dim not in ("lead_time", "variable")])
    together = replace(pooled, group=dict.fromkeys(pooled.group, "all"))
    groups = [str(group) for group in relative["group"].values]
    return {
        **_headline(relative),
        **_normalised(sums),
        "pooled_relative_l2": scores.relative_l2(together).sel(group="all").values.tolist(),
        "failed": _failures(failed.any("group")),
        "groups": {group: _group(pooled, relative, failed, group) for group in groups},
    }


def summarise_region(sums: Sums) -> dict[str, Any]:
    """The scores of one method over one region: what `summarise` says of each variable group."""
    relative, failed = scores.over_samples(scores.relative_l1(sums), "median"), scores.failed(sums)
    pooled = sums.pooled(*[str(dim) for dim in sums.sums.dims if dim not in ("lead_time", "variable")])
    groups = [str(group) for group in relative["group"].values]
    return {"groups": {group: _group(pooled, relative, failed, group) for group in groups}}


def _headline(relative: xr.DataArray) -> dict[str, Any]:
    curve = relative.mean("group").values
    return {"one_step": float(curve[0]), "rollout": float(np.mean(curve)), "by_lead_time": curve.tolist()}


def _normalised(sums: Sums) -> dict[str, Any]:
    if not set(scores.NORMALISED) <= set(sums.sums.data_vars):
        return {}
    return {"normalised": _headline(scores.over_samples(scores.normalised_relative_l1(sums), "median"))}


def _failures(failed: xr.DataArray) -> dict[str, Any]:
    """How many of the (*samples, lead_time) forecasts fail, and how many of them have failed at each lead time."""
    samples = failed.any("lead_time")
    by_lead_time = failed.sum(sample_dims(failed)).values.tolist()
    return {"forecasts": int(samples.sum()), "of": samples.size, "by_lead_time": by_lead_time}


def _group(pooled: Sums, relative: xr.DataArray, failed: xr.DataArray, group: str) -> dict[str, list[float]]:
    return {
        "relative_l1": relative.sel(group=group).values.tolist(),
        "pooled_relative_l2": scores.relative_l2(pooled).sel(group=group).values.tolist(),
        "rmse": scores.rmse(pooled).sel(group=group).values.tolist(),
        "bias": scores.bias(pooled).sel(group=group).values.tolist(),
        "failed": failed.sel(group=group).sum(sample_dims(failed)).values.tolist(),
    }


def groups_of(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The variable groups of all methods' scores, in order of appearance."""
    return list(dict.fromkeys(group for values in methods.values() for group in values["groups"]))


def describe_failures(values: Mapping[str, Any]) -> str:
    """How many of a method's forecasts failed.

    >>> describe_failures({"failed": {"forecasts": 4, "of": 10}})
    '4 of 10'
    """
    return f"{values['failed']['forecasts']} of {values['failed']['of']}"


def describe_left_out(about: Mapping[str, Any]) -> list[str]:
    """For each variable the share of points without a score, and of which methods, from the content of scores.json."""
    methods: dict[tuple[str, int], list[str]] = {}
    for method, values in about["methods"].items():
        for name, count in values["left_out"].items():
            methods.setdefault((name, count), []).append(method)
    return [
        f"{100 * count / about['points'][name]:.2g} % of the points of {name} are left out, where there is a truth but"
        f" nothing to forecast it from ({', '.join(names)})"
        for (name, count), names in methods.items()
    ]


def json_values(values: Any) -> Any:
    """The same tree with null for numbers that JSON doesn't have: infinite errors and undefined ratios.

    >>> json_values({"rmse": [0.5, float("inf")], "one_step": float("nan")})
    {'rmse': [0.5, None], 'one_step': None}
    """
    if isinstance(values, Mapping):
        return {key: json_values(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [json_values(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
