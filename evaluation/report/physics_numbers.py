"""The numbers of a report's physics: energies by wavenumber, errors by band, the last octave, and drifts.

Shapes: B drawings of forecasts, S samples, L lead times, K wavenumbers.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.score_reduction import over_samples
from pelagos.evaluation.forecast_schema import grid_of
from pelagos.evaluation.inference.estimate import interval
from pelagos.evaluation.report.curves import by_sample
from pelagos.evaluation.report.score_number import ScoreLines
from pelagos.evaluation.report.spectral_sections import (
    alternating_energy,
    band_energy,
    band_title,
    comparable,
    energy_ratio,
)
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation
from pelagos.preprocessing.array_types import Floats


def has_physics(truth: xr.Dataset) -> bool:
    """Whether spectra and means over the domain make sense: of fields without holes, on whole circles of latitude."""
    grid = grid_of(truth)
    return bool(truth["complete"].all()) and (grid.kind != "latlon" or grid.periodic[1])


def physics_lines(evaluation: Evaluation, counts_BS: Floats) -> Iterator[tuple[str, ScoreLines]]:
    """What the figures of the report's physics show of each method, and of the truth, number by number."""
    truth = evaluation.truth
    if not has_physics(truth):
        return
    for group in dict.fromkeys(truth["group"].values.tolist()):
        unit = evaluation.units(group)
        squared = unit if unit == "1" else f"({unit})^2"
        spectra = evaluation.spectra(group)
        for method, spectrum in spectra.items():
            # The first wavenumber is the mean of the field, which the figures leave out, too.
            for place, wavenumber in enumerate(spectrum["wavenumber"].values[1:], start=1):
                score = f"energy at wavenumber {wavenumber:g}"
                yield method, _medians(score, group, squared, spectrum.isel(wavenumber=place), counts_BS)
            if method != TRUTH:
                for lines in _ratios(spectra[TRUTH], spectrum, group, counts_BS):
                    yield method, lines
            if method != TRUTH and truth.sizes["lead_time"] > 1:
                for lines in _bands(truth, evaluation.kept[method], group, counts_BS):
                    yield method, lines
    for method, drift in evaluation.drifts.items():
        for quantity, change in drift.items():
            yield method, _medians("relative change", str(quantity), "1", change, counts_BS)


def _medians(score: str, field: str, units: str, array: xr.DataArray, counts_BS: Floats) -> ScoreLines:
    values_SL = by_sample(array, "lead_time")
    drawn_BL = over_samples(values_SL, counts_BS, "median")
    return _lines(score, field, units, array["lead_time"].values.tolist(), drawn_BL, values_SL)


def _ratios(truth: xr.DataArray, own: xr.DataArray, group: str, counts_BS: Floats) -> Iterator[ScoreLines]:
    """Of each wavenumber that is comparable at one lead time at least; undefined at those where it is not."""
    true_SLK, own_SLK = (by_sample(one, "lead_time", "wavenumber") for one in (truth, own))
    times = truth["lead_time"].values.tolist()
    known_LK = np.stack([comparable(true_SLK[:, place]) for place in range(len(times))])
    for place in np.flatnonzero(known_LK.any(axis=0)):
        own_SL = np.where(known_LK[:, place], own_SLK[..., place], np.nan)
        drawn = energy_ratio(own_SL, true_SLK[..., place], counts_BS)
        score = f"energy / truth at wavenumber {truth['wavenumber'].values[place]:g}"
        yield _lines(score, group, "1", times, drawn, own_SL)


def _bands(truth: xr.Dataset, own: xr.Dataset, group: str, counts_BS: Floats) -> Iterator[ScoreLines]:
    times = truth["thinned"].values.tolist()
    last = truth.sizes["band"] - 1
    for place in range(last):
        error_SL = band_energy(own, "error_bands", group, place)
        drawn = energy_ratio(error_SL, band_energy(truth, "bands", group, place), counts_BS, root=True)
        yield _lines(f"error / truth, {band_title(truth, place)}", group, "1", times, drawn, error_SL)
    energy_SL = band_energy(own, "bands", group, last)
    drawn = energy_ratio(energy_SL, band_energy(truth, "bands", group, last), counts_BS)
    yield _lines("energy of the last octave / truth", group, "1", times, drawn, energy_SL)
    if "alternating" in own:
        forecast_SL, true_SL = alternating_energy(own, group)
        drawn = energy_ratio(forecast_SL, true_SL, counts_BS)
        yield _lines(
            "energy that alternates from point to point / truth", group, "1", times, drawn, forecast_SL
        )


def _lines(
    score: str, group: str, units: str, times: Sequence[float], drawn_BL: Floats, values_SL: Floats
) -> ScoreLines:
    defined, infinite = (~np.isnan(values_SL)).sum(axis=0), np.isinf(values_SL).sum(axis=0)
    columns = [drawn_BL[0], *interval(drawn_BL[1:]), defined, infinite]
    return ScoreLines(WHOLE, score, (group,), (units,), tuple(times), np.stack(columns, axis=-1)[:, None])
