"""What forecasts do at which scale: the error of bands of wavenumbers, and the energy of the last octave.

Shapes: B drawings of forecasts, S samples, L lead times.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.score_reduction import over_samples
from pelagos.evaluation.report import curves
from pelagos.evaluation.report.chart import Curve, Panel
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.preprocessing.array_types import Floats


def band_panels(kept: Mapping[str, xr.Dataset], group: str, counts_BS: Floats) -> list[Panel]:
    """A panel for each band: √(energy of the error / energy of the truth) over lead time; 1 is no skill.

    Energies are averaged over forecasts; those that are not numbers have none and are left out.
    """
    truth = kept[TRUTH]
    times, label = _times(truth)
    panels = []
    # The last is the octave of `octave_panel`.
    for place in range(truth.sizes["band"] - 1):
        true = band_energy(truth, "bands", group, place)
        lines = [
            _ratio_curve(
                name, times, band_energy(content, "error_bands", group, place), true, counts_BS, root=True
            )
            for name, content in kept.items()
            if name != TRUTH and _has(content, group)
        ]
        panels.append(Panel(band_title(truth, place), lines, label, "error / truth"))
    return curves.alike(panels)


def octave_panel(kept: Mapping[str, xr.Dataset], group: str, counts_BS: Floats) -> Panel:
    """Energy of the last resolved octave, forecast over truth: below 1 is blurred, above 1 noisy."""
    times, label = _times(kept[TRUTH])
    true = band_energy(kept[TRUTH], "bands", group, -1)
    lines = [
        _ratio_curve(name, times, band_energy(content, "bands", group, -1), true, counts_BS)
        for name, content in kept.items()
        if name != TRUTH and _has(content, group)
    ]
    lines.append(Curve("truth", times, np.ones(len(times))))
    return curves.alike([Panel(group, lines, label, "energy / truth's")])[0]


def band_title(truth: xr.Dataset, place: int) -> str:
    """The wavenumbers of a band, in words."""
    first, last = (int(truth[f"band_{end}"][place]) for end in ("first", "last"))
    return f"wavenumbers {first} to {last}" if last > first else f"wavenumber {first}"


def _times(truth: xr.Dataset) -> tuple[Floats, str]:
    times, unit = curves.readable_times(truth["thinned"].rename(thinned="lead_time"))
    return times, "lead time" + (f" [{unit}]" if unit else "")


def _has(content: xr.Dataset, group: str) -> bool:
    return group in content["group"].values


def band_energy(content: xr.Dataset, name: str, group: str, band: int) -> Floats:
    """(S, L) energy of one band, variables of a group added up; NaN where one is missing."""
    chosen = content[name].isel(variable=np.flatnonzero(content["group"].values == group), band=band)
    energy = chosen.sum("variable", skipna=False).transpose(..., "thinned").values
    return np.asarray(energy.reshape(-1, energy.shape[-1]), np.float64)


def _ratio_curve(
    name: str, times: Floats, own_SL: Floats, true_SL: Floats, counts_BS: Floats, *, root: bool = False
) -> Curve:
    """The ratio of mean energies, and its interval."""
    return curves.drawn_curve(name, times, energy_ratio(own_SL, true_SL, counts_BS, root=root))


def energy_ratio(own_SL: Floats, true_SL: Floats, counts_BS: Floats, *, root: bool = False) -> Floats:
    """(B, L) ratio of mean energies, or its root, of the samples as they were drawn; NaN where there is no energy."""
    own, true = (over_samples(one, counts_BS, "mean") for one in (own_SL, true_SL))
    ratios = np.where(true > 0, own / np.where(true > 0, true, 1), np.nan)
    return np.asarray(np.sqrt(ratios) if root else ratios)
