"""Invariant drift: how far forecasts are from what the equations conserve, with units and intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.score_reduction import over_samples
from pelagos.evaluation.inference.estimate import Estimate, interval
from pelagos.evaluation.quantity_units import quantity_units
from pelagos.evaluation.streaming.kept_statistics import SAMPLES
from pelagos.evaluation.streaming.score_plan import TRUTH, ScorePlan
from pelagos.preprocessing.array_types import Flags, Floats


def invariant_drift(
    plan: ScorePlan, kept: Mapping[str, xr.Dataset], method: str, counts_BS: Floats, failed_S: Flags
) -> dict[str, Any]:
    """Quantity -> its change from the initial frame, in units and relative to its size there.

    Each is the mean over forecasts of |Q(t) − Q(0)|: `change` at the last lead time, `relative` over ⟨|q(0)|⟩, and
    `of_truth` the same of the truth, which forced and dissipative equations change by rights.
    """
    first, scale = (kept[TRUTH][name] for name in ("initial_quantities", "quantity_scales"))
    units = {variable.key: variable.units for variable in plan.variables}
    found = {}
    for quantity in kept[method]["quantity"].values.tolist():
        start, size = (one.sel(quantity=quantity) for one in (first, scale))
        changes = {
            name: _by_sample(abs(kept[name]["quantities"].sel(quantity=quantity) - start))
            for name in (method, TRUTH)
        }
        sizes_S1 = _by_sample(size.expand_dims(thinned=1))
        relative = changes[method] / np.where(sizes_S1 > 0, sizes_S1, np.nan)
        found[quantity] = {
            "units": quantity_units(quantity, units, plan.grid.units),
            "change": _estimate(changes[method], counts_BS, failed_S),
            "relative": _estimate(relative, counts_BS, failed_S),
            "of_truth": _estimate(changes[TRUTH], counts_BS, np.zeros_like(failed_S)),
        }
    return found


def _estimate(changes_SL: Floats, counts_BS: Floats, failed_S: Flags) -> dict[str, Any]:
    """The mean over forecasts at the last lead time, infinite where one failed."""
    last = np.where(failed_S, np.inf, changes_SL[:, -1])
    drawn = over_samples(last, counts_BS, "mean")
    low, high = (float(end) for end in interval(drawn[1:]))
    number = int((~np.isnan(last)).sum())
    return Estimate(float(drawn[0]), low, high, number, int(failed_S.sum())).to_json()


def _by_sample(array: xr.DataArray) -> Floats:
    """(S, L)."""
    dims = [dim for dim in SAMPLES if dim in array.dims]
    values = array.transpose(*dims, "thinned").values
    return np.asarray(values.reshape(-1, values.shape[-1]), np.float64)
