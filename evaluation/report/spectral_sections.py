"""What forecasts do at which scale: the error of bands of wavenumbers, and the energy of the last octave."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import xarray as xr

from pelagos.evaluation.forecast_schema import LEAD_TIME
from pelagos.evaluation.report import curves
from pelagos.evaluation.report.chart import Curve, Panel
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.preprocessing.array_types import Floats

EDGES = (1, 4, 12)
"""PDEBench's bands of wavenumbers: from 1, from 4 and from 12 on."""


def band_panels(kept: Mapping[str, xr.Dataset], group: str) -> list[Panel]:
    """A panel for each band: √(energy of the error / energy of the truth) over lead time; 1 is no skill.

    Energies are added up over forecasts; those that are not numbers have none and are left out.
    """
    count = kept[TRUTH].sizes["wavenumber"]
    bounds = [*(edge for edge in EDGES if edge < count), count]
    times, unit = curves.readable_times(kept[TRUTH]["spectrum_sum"])
    label = "lead time" + (f" [{unit}]" if unit else "")
    truth = _mean_energy(kept[TRUTH], "spectrum", group)
    panels = []
    for low, high in pairwise(bounds):
        band = slice(low, high)
        lines = [
            Curve(name, times, np.sqrt(_ratio(_mean_energy(content, "error_spectrum", group), truth, band)))
            for name, content in kept.items()
            if name != TRUTH and _has(content, group)
        ]
        title = f"wavenumbers {low} to {high - 1}" if high - low > 1 else f"wavenumber {low}"
        panels.append(Panel(title, lines, label, "error / truth"))
    return curves.alike(panels)


def octave_panel(kept: Mapping[str, xr.Dataset], group: str, resolved: int) -> Panel:
    """Energy of the last resolved octave, forecast over truth: below 1 is blurred, above 1 noisy."""
    times, unit = curves.readable_times(kept[TRUTH]["spectrum_sum"])
    truth, band = _mean_energy(kept[TRUTH], "spectrum", group), slice(resolved // 2 + 1, resolved + 1)
    lines = [
        Curve(name, times, _ratio(_mean_energy(content, "spectrum", group), truth, band))
        for name, content in kept.items()
        if name != TRUTH and _has(content, group)
    ]
    lines.append(Curve("truth", times, np.ones(len(times))))
    return curves.alike(
        [Panel(group, lines, "lead time" + (f" [{unit}]" if unit else ""), "energy / truth's")]
    )[0]


def _has(content: xr.Dataset, group: str) -> bool:
    return group in content["group"].values


def _mean_energy(content: xr.Dataset, name: str, group: str) -> Floats:
    """(lead_time, wavenumber) mean over forecasts, variables of a group added up; NaN where there is no forecast."""
    chosen = content.isel(variable=np.flatnonzero(content["group"].values == group))
    number = chosen[f"{name}_count"]
    mean = chosen[f"{name}_sum"] / number.where(number > 0)
    return np.asarray(
        mean.sum("variable", skipna=False).transpose(LEAD_TIME, "wavenumber").values, np.float64
    )


def _ratio(above: Floats, below: Floats, band: slice) -> Floats:
    own, true = above[:, band].sum(axis=1), below[:, band].sum(axis=1)
    return np.asarray(np.where(true > 0, own / np.where(true > 0, true, 1), np.nan))
