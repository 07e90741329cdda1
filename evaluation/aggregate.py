"""Sums: the mergeable state between statistics of chunks and metrics of the whole.

A statistic is a pointwise function of forecast and truth; a chunk contributes its weighted sums and the
sum of its weights; metrics are functions of those. So scores don't depend on how samples, lead times,
variables or space were cut into chunks (the design of WeatherBench-X). Per-sample values are kept until
`pooled` is called, hence medians over samples are possible, and the order of root and mean is the
caller's: `rmse(sums).mean("trajectory")` takes the root first, `rmse(sums.pooled("trajectory"))` last.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation import centred_moments
from pelagos.evaluation.forecast_schema import variable_names, variables_by_group
from pelagos.preprocessing.errors import DataError

WEIGHT = "weight"


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums over space of statistics, (*samples, lead_time, variable) each, float64.

    Attributes:
        sums: one variable a statistic, and `weight`, the sum of the weights of valid points.
        maxima: statistics of which the largest value over space is kept instead.
        group: variable -> score group, in the order of the variables.
        moments: means and centred products of forecast and truth, see `centred_moments`.
    """

    sums: xr.Dataset
    maxima: xr.Dataset
    group: dict[str, str]
    moments: xr.Dataset = field(default_factory=xr.Dataset)

    @classmethod
    def zero(cls) -> "Sums":
        """The neutral element of `+`."""
        return cls(xr.Dataset(), xr.Dataset(), {})

    def __add__(self, other: "Sums") -> "Sums":
        """The state of both chunks, which must not share points."""
        if not self.group or not other.group:
            return other if not self.group else self
        group = {**self.group, **other.group}
        sums = _merge(self.sums, other.sums, operator.add)
        maxima = _merge(self.maxima, other.maxima, _larger)
        moments = _merge_moments(self.moments, other.moments)
        order = {"variable": list(group)}
        return Sums(sums.sel(order), maxima.sel(order), group, moments.sel(order) if moments else moments)

    @classmethod
    def total(cls, chunks: Iterable["Sums"]) -> "Sums":
        """The state of all chunks."""
        return sum(chunks, cls.zero())

    def pooled(self, *dims: str) -> "Sums":
        """The state summed over dimensions, by which a mean over them is taken before any root or ratio."""
        sums, maxima = self.sums.sum(dims, skipna=False), self.maxima.max(dims, skipna=False)
        parts: dict[str, xr.DataArray] = {}
        with np.errstate(invalid="ignore", over="ignore"):  # forecasts that blew up
            for prefix in centred_moments.prefixes(self.moments):
                parts |= centred_moments.pool(self.moments, dims, prefix)
        return replace(self, sums=sums, maxima=maxima, moments=xr.Dataset(parts))

    def ungrouped(self) -> "Sums":
        """The same sums with every variable a group of its own."""
        return replace(self, group={variable: variable for variable in self.group})

    def grouped(self, by_variable: xr.DataArray) -> xr.DataArray:
        """(..., variable) summed over the variables of each group: (..., group)."""
        return self._by_group(by_variable, np.add)

    def largest(self, statistic: str) -> xr.DataArray:
        """(..., group) largest value of a statistic over the variables of each group."""
        return self._by_group(self.maxima[statistic], np.maximum)

    def sum(self, statistic: str) -> xr.DataArray:
        """(..., group) weighted sum of a statistic over the points and variables of each group."""
        return self.grouped(self._of(statistic))

    def mean(self, statistic: str) -> xr.DataArray:
        """(..., group) weighted mean of a statistic; NaN where no point is valid."""
        return ratio(self.sum(statistic), self.sum(WEIGHT))

    def central(self, product: str, prefix: str = "") -> xr.DataArray:
        """(..., variable) sum of (a − ⟨a⟩)(b − ⟨b⟩) for the a and b of a product, such as `squared_truth`."""
        return self.moments[prefix + centred_moments.CENTRED + product]

    def _by_group(self, values: xr.DataArray, combine: np.ufunc) -> xr.DataArray:
        # In NumPy: each selection, sum and concatenation of labelled arrays takes longer than the scores of a frame.
        ordered = values.transpose(..., "variable")
        names, members = ordered["variable"].values.tolist(), variables_by_group(self.group)
        parts = [
            combine.reduce(ordered.values[..., [names.index(name) for name in group]], axis=-1)
            for group in members.values()
        ]
        found = np.stack(parts, axis=-1)
        labels = self._labels
        if labels.dims[:-1] == ordered.dims[:-1] and labels.shape == found.shape:
            return labels.copy(deep=False, data=found)
        return _labelled(ordered, found, list(members))

    @cached_property
    def _labels(self) -> xr.DataArray:
        """The labels of all arrays by group: to make them takes as long as to add up a small field."""
        weight, groups = self.sums[WEIGHT].transpose(..., "variable"), list(variables_by_group(self.group))
        return _labelled(weight, np.empty((*weight.shape[:-1], len(groups))), groups)

    def _of(self, statistic: str) -> xr.DataArray:
        if statistic not in self.sums:
            known = ", ".join(str(name) for name in self.sums.data_vars)
            raise KeyError(f"the statistic {statistic!r} was not accumulated; there are {known}")
        return self.sums[statistic]


def _labelled(by_variable: xr.DataArray, by_group: NDArray[Any], groups: list[str]) -> xr.DataArray:
    coords = {name: array for name, array in by_variable.coords.items() if "variable" not in array.dims}
    return xr.DataArray(by_group, {**coords, "group": groups}, (*by_variable.dims[:-1], "group"))


def ratio(numerator: xr.DataArray, denominator: xr.DataArray) -> xr.DataArray:
    """The ratio of arrays with the same labels; NaN, that is undefined, where the denominator is zero."""
    assert numerator.dims == denominator.dims, "labels are taken from the numerator"
    with np.errstate(invalid="ignore", over="ignore"):  # forecasts that blew up
        found = numerator.values / np.where(denominator.values > 0, denominator.values, np.nan)
    return numerator.copy(deep=False, data=found)


def _merge(
    a: xr.Dataset, b: xr.Dataset, combine: Callable[[xr.DataArray, xr.DataArray], xr.DataArray]
) -> xr.Dataset:
    if set(a.data_vars) != set(b.data_vars):
        ours, theirs = variable_names(a), variable_names(b)
        raise DataError(f"chunks with different statistics can't be added: {ours} and {theirs}")
    # A sample that only one chunk has is zero in the other: it has no weight there.
    left, right = xr.align(a, b, join="outer", fill_value=0.0)
    return left.assign({name: combine(left[name], right[name]) for name in left.data_vars})


def _merge_moments(a: xr.Dataset, b: xr.Dataset) -> xr.Dataset:
    left, right = xr.align(a, b, join="outer", fill_value=0.0)
    parts: dict[str, xr.DataArray] = {}
    with np.errstate(invalid="ignore", over="ignore"):  # forecasts that blew up
        for prefix in centred_moments.prefixes(a):
            parts |= centred_moments.merge(left, right, prefix)
    return left.assign(parts)


def _larger(a: xr.DataArray, b: xr.DataArray) -> xr.DataArray:
    return a.where(a >= b, b)
