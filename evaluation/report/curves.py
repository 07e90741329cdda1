"""Scores, spectra, drifts and losses as panels of curves: the step from xarray to a chart."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pelagos.evaluation.conventions.score_reduction import over_samples
from pelagos.evaluation.forecast_schema import LEAD_TIME
from pelagos.evaluation.inference.estimate import interval
from pelagos.evaluation.report.chart import Curve, Panel
from pelagos.preprocessing.array_types import Floats

Array = NDArray[np.float64]
Methods = Mapping[str, xr.DataArray]


def lead_time_panels(
    methods: Methods,
    y_label: str,
    *,
    log: bool,
    least_span: float = 0.0,
    horizons: Mapping[str, float] = MappingProxyType({}),
    counts_BS: Floats | None = None,
) -> list[Panel]:
    """One panel a group of (*samples, lead_time, [group]) arrays: the median over samples and its interval.

    Without counts of how often each sample is drawn, the middle half of the samples takes the interval's place.

    With log=True, the axes of all panels are logarithmic where all values are positive and those of one span more
    than a factor of 20. At its horizon, in the coordinate's units, a method gets an upright line.
    """
    first = next(iter(methods.values()))
    times, unit = readable_times(first)
    x_label = "lead time" + (f" [{unit}]" if unit else "")
    panels = []
    for group in _groups(methods):
        chosen = {name: _one_group(array, group) for name, array in methods.items()}
        curves = [
            _median_curve(name, times, array, counts_BS)
            for name, array in chosen.items()
            if array is not None
        ]
        # Times may be shown in another unit than the coordinate's.
        factor = times[-1] / float(first[LEAD_TIME].values[-1])
        marks = {name: time * factor for name, time in horizons.items() if chosen.get(name) is not None}
        panels.append(Panel(group, curves, x_label, y_label, least_span=least_span, marks=marks))
    return alike(panels) if log else panels


def alike(panels: Sequence[Panel]) -> list[Panel]:
    """All panels of a figure with a logarithmic axis, where all can have one and one needs it: no mixture misleads."""
    can = all(_positive(panel.curves) for panel in panels)
    return [replace(panel, log_y=can and any(_wide(one.curves) for one in panels)) for panel in panels]


def spectrum_panels(
    methods: Methods, lead_times: Sequence[float] | None, x_label: str, counts_BS: Floats | None = None
) -> list[Panel]:
    """One panel a lead time of (*samples, lead_time, wavenumber) spectra: medians, without k = 0.

    With counts of how often each sample is drawn, medians have intervals.
    """
    first = next(iter(methods.values()))
    positions = choose(first[LEAD_TIME].values, lead_times, 3)
    times, unit = readable_times(first)
    panels = []
    for position in positions:
        arrays = {name: array.isel({LEAD_TIME: position}) for name, array in methods.items()}
        curves = [_spectrum(name, array, counts_BS) for name, array in arrays.items()]
        # Ten orders of magnitude below the peak there is only rounding.
        floor = 1e-10 * max(float(np.nanmax(curve.y, initial=0.0)) for curve in curves)
        title = f"lead time {quantity(times[position], unit)}"
        panels.append(Panel(title, curves, x_label, "energy", log_x=True, log_y=True, y_floor=floor))
    return panels


def loss_panel(runs: Mapping[str, tuple[ArrayLike, ArrayLike]], x_label: str, y_label: str) -> Panel:
    """Run -> (steps, losses), averaged in at most 100 bins, on a logarithmic axis."""
    curves = [
        Curve(name, *_binned(np.asarray(steps), np.asarray(losses))) for name, (steps, losses) in runs.items()
    ]
    return Panel("", curves, x_label, y_label, log_y=_positive(curves))


def readable_times(array: xr.DataArray) -> tuple[Array, str]:
    """Lead times and their unit for people: long stretches of seconds become hours or days."""
    coordinate = array[LEAD_TIME]
    times, unit = coordinate.values.astype(np.float64), str(coordinate.attrs.get("units", "1"))
    if unit == "s":
        for seconds, name in ((86400.0, "d"), (3600.0, "h")):
            if times[-1] >= 4 * seconds:
                return times / seconds, name
    return times, "" if unit == "1" else unit


def quantity(value: float, unit: str) -> str:
    """A value with its unit.

    >>> quantity(0.30000000000000004, "s"), quantity(2.0, "")
    ('0.3 s', '2')
    """
    return f"{value:.4g} {unit}".strip()


def choose(lead_time: Array, wanted: Sequence[float] | None, count: int) -> list[int]:
    """Positions of the lead times nearest to those wanted, or of `count` evenly spread ones."""
    if wanted is None:
        spread = np.linspace(0, len(lead_time) - 1, min(count, len(lead_time)))
        return [int(position) for position in np.rint(spread)]
    return [int(np.argmin(np.abs(lead_time - time))) for time in wanted]


def _groups(methods: Methods) -> list[str]:
    """All groups in order of appearance; one without a name where arrays have none."""
    groups = [
        str(group)
        for array in methods.values()
        for group in (array["group"].values if "group" in array.dims else [""])
    ]
    return list(dict.fromkeys(groups))


def _one_group(array: xr.DataArray, group: str) -> xr.DataArray | None:
    if "group" not in array.dims:
        return array
    return array.sel(group=group) if group in array["group"].values else None


def drawn_curve(name: str, x: Array, drawn_BX: Array) -> Curve:
    """A curve of numbers that were drawn again and again, the first of all samples as they are."""
    low, high = interval(drawn_BX[1:])
    known = np.isfinite(drawn_BX[0])
    # Where nothing can be drawn there is no interval, and half a ribbon would say that there is none elsewhere.
    missing = bool(np.isnan(low[known]).any()) or not known.any()
    return Curve(name, x, drawn_BX[0], *((None, None) if missing else (low, high)))


def by_sample(array: xr.DataArray, *last: str) -> Array:
    """(samples, *last) values of an array over samples and these dimensions."""
    sizes = [array.sizes[name] for name in last]
    return array.transpose(..., *last).values.reshape(-1, *sizes).astype(np.float64)


def _median_curve(name: str, times: Array, array: xr.DataArray, counts_BS: Floats | None) -> Curve:
    values = by_sample(array, LEAD_TIME)
    if counts_BS is not None:
        return drawn_curve(name, times, over_samples(values, counts_BS, "median"))
    values = values[~np.isnan(values).all(axis=1)]
    if len(values) == 0:
        return Curve(name, times, np.full(len(times), np.nan))
    # Order statistics: interpolating between a number and infinity is undefined.
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0, method="nearest")
    if np.isfinite(values).all():
        middle = np.median(values, axis=0)
    return Curve(name, times, middle, *((low, high) if len(values) > 3 else (None, None)))


def _spectrum(name: str, array: xr.DataArray, counts_BS: Floats | None) -> Curve:
    values = by_sample(array, "wavenumber")[:, 1:]
    wavenumber = array["wavenumber"].values[1:].astype(np.float64)
    once = np.ones((1, len(values))) if counts_BS is None else counts_BS
    return drawn_curve(name, wavenumber, over_samples(values, once, "median"))


def _binned(steps: NDArray[np.generic], losses: NDArray[np.generic], bins: int = 100) -> tuple[Array, Array]:
    parts = min(bins, len(steps))
    x = [part.astype(np.float64).mean() for part in np.array_split(steps, parts)]
    y = [part.astype(np.float64).mean() for part in np.array_split(losses, parts)]
    return np.array(x), np.array(y)


def _positive(curves: Sequence[Curve]) -> bool:
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    return bool(values.size and values.min() > 0)


def _wide(curves: Sequence[Curve]) -> bool:
    values = np.concatenate([curve.y[np.isfinite(curve.y)] for curve in curves])
    return _positive(curves) and bool(values.max() / values.min() > 20)
