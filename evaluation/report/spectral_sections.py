"""What forecasts do at which scale: energy and error by wavenumber, and energy at the smallest scales.

Shapes: B drawings of forecasts, S samples, L lead times, K wavenumbers.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.score_reduction import over_samples
from pelagos.evaluation.frame_sums.spectral_sums import FLOOR
from pelagos.evaluation.report import curves
from pelagos.evaluation.report.chart import Curve, Panel
from pelagos.evaluation.streaming.score_plan import FIELDS, TRUTH
from pelagos.preprocessing.array_types import Flags, Floats


def band_panels(kept: Mapping[str, xr.Dataset], group: str, counts_BS: Floats) -> list[Panel]:
    """A panel for each band: √(energy of the error / energy of the truth) over lead time; 1 is no skill.

    Energies are averaged over forecasts; those that are not numbers have none and are left out.
    """
    truth = kept[TRUTH]
    times, label = _times(truth)
    panels = []
    # The last is the octave of `fine_panels`.
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


def ratio_panels(spectra: Mapping[str, xr.DataArray], counts_BS: Floats) -> list[Panel]:
    """A panel for the first, a middle and the last lead time: energy by wavenumber, forecast over truth.

    Args:
        spectra: truth and methods -> (*samples, lead_time, wavenumber).
        counts_BS: how often each sample is drawn.
    """
    truth = spectra[TRUTH]
    times, unit = curves.readable_times(truth)
    panels = []
    for place in curves.choose(truth["lead_time"].values, None, 3):
        true_SK = curves.by_sample(truth.isel(lead_time=place), "wavenumber")
        known = comparable(true_SK)
        wavenumbers = truth["wavenumber"].values[known].astype(np.float64)
        lines = []
        for name, spectrum in spectra.items():
            if name != TRUTH:
                own_SK = curves.by_sample(spectrum.isel(lead_time=place), "wavenumber")
                lines.append(_ratio_curve(name, wavenumbers, own_SK[:, known], true_SK[:, known], counts_BS))
        lines.append(Curve("truth", wavenumbers, np.ones(len(wavenumbers))))
        title = f"lead time {curves.quantity(times[place], unit)}"
        panels.append(Panel(title, lines, "wavenumber", "energy / truth's", log_x=True))
    return curves.alike(panels)


def comparable(true_SK: Floats) -> Flags:
    """(K,) the wavenumbers with enough of the truth's energy to be compared; the first is the mean of the field."""
    energy_K = np.where(np.isnan(true_SK), 0.0, true_SK).sum(axis=0)
    energy_K[0] = 0.0
    return np.asarray(energy_K > FLOOR * energy_K.sum())


def fine_panels(kept: Mapping[str, xr.Dataset], group: str, counts_BS: Floats) -> list[Panel]:
    """Energy over the truth's of the last resolved octave, and of what alternates from point to point.

    The latter is missing where no method has it, as in archives of earlier versions.
    """
    times, label = _times(kept[TRUTH])
    true_SL = band_energy(kept[TRUTH], "bands", group, -1)
    octave: list[Curve] = []
    alternating: list[Curve] = []
    for name, content in kept.items():
        if name != TRUTH and _has(content, group):
            own_SL = band_energy(content, "bands", group, -1)
            octave.append(_ratio_curve(name, times, own_SL, true_SL, counts_BS))
            if "alternating" in content:
                both = alternating_energy(content, group)
                alternating.append(_ratio_curve(name, times, *both, counts_BS))
    one = Curve("truth", times, np.ones(len(times)))
    panels = {"last octave": octave, "checkerboards and stripes of one point": alternating}
    return curves.alike(
        [Panel(title, [*lines, one], label, "energy / truth's") for title, lines in panels.items() if lines]
    )


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
    return _of_group(content[name].isel(band=band), group)


def alternating_energy(content: xr.Dataset, group: str) -> tuple[Floats, Floats]:
    """(S, L) energy at the grid scale of forecasts and of their truths, as `band_energy`; NaN where one has failed."""
    forecast, truth = (_of_group(content["alternating"].sel(field=name), group) for name in FIELDS)
    return np.where(np.isfinite(forecast), forecast, np.nan), truth


def _of_group(energy: xr.DataArray, group: str) -> Floats:
    chosen = energy.isel(variable=np.flatnonzero(energy["group"].values == group))
    return curves.by_sample(chosen.sum("variable", skipna=False), "thinned")


def _ratio_curve(
    name: str, times: Floats, own_SL: Floats, true_SL: Floats, counts_BS: Floats, *, root: bool = False
) -> Curve:
    """The ratio of mean energies, and its interval."""
    return curves.drawn_curve(name, times, energy_ratio(own_SL, true_SL, counts_BS, root=root))


def energy_ratio(own_SL: Floats, true_SL: Floats, counts_BS: Floats, *, root: bool = False) -> Floats:
    """(B, L) ratio of mean energies, or its root, of the samples as they were drawn; NaN where there is no energy.

    Samples without an energy of their own, which have failed, count in neither mean.
    """
    both = (own_SL, np.where(np.isnan(own_SL), np.nan, true_SL))
    own, true = (over_samples(one, counts_BS, "mean") for one in both)
    ratios = np.where(true > 0, own / np.where(true > 0, true, 1), np.nan)
    return np.asarray(np.sqrt(ratios) if root else ratios)
