"""The numbers of a report's physics: energies by wavenumber, errors by band, the last octave, and drifts.

Shapes: B drawings of forecasts, S samples, L lead times.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from pelagos.evaluation.conventions.score_reduction import over_samples
from pelagos.evaluation.forecast_schema import grid_of
from pelagos.evaluation.inference.estimate import interval
from pelagos.evaluation.report.score_number import ScoreLines
from pelagos.evaluation.report.spectral_sections import band_energy, band_title, energy_ratio
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation
from pelagos.preprocessing.array_types import Floats


def has_physics(truth: xr.Dataset) -> bool:
    """Whether spectra and means over the domain make sense: of fields without holes, on whole circles of latitude."""
    grid = grid_of(truth)
    return bool(truth["complete"].all()) and (grid.kind != "latlon" or grid.periodic[1])


def physics_lines(evaluation: Evaluation, method: str, counts_BS: Floats) -> Iterator[ScoreLines]:
    """What the figures of the report's physics show of a method, or of the truth, number by number."""
    if not has_physics(evaluation.truth):
        return
    for group in dict.fromkeys(evaluation.kept[method]["group"].values.tolist()):
        if method in (spectra := evaluation.spectra(group)):
            yield from _energies(spectra[method], group, evaluation.squared_units(group), counts_BS)
            if method != TRUTH and evaluation.truth.sizes["lead_time"] > 1:
                yield from _bands(evaluation, method, group, counts_BS)
    if method in evaluation.drifts:
        for quantity, change in evaluation.drifts[method].items():
            values_SL = _by_sample(change)
            drawn = over_samples(values_SL, counts_BS, "median")
            yield _lines("relative change", str(quantity), "1", _times(change), drawn, values_SL)


def _energies(spectrum: xr.DataArray, group: str, units: str, counts_BS: Floats) -> Iterator[ScoreLines]:
    # The first is the mean of the field, which the figures leave out, too.
    for place, wavenumber in enumerate(spectrum["wavenumber"].values[1:], start=1):
        energy = spectrum.isel(wavenumber=place)
        values_SL = _by_sample(energy)
        drawn = over_samples(values_SL, counts_BS, "median")
        yield _lines(f"energy at wavenumber {wavenumber:g}", group, units, _times(spectrum), drawn, values_SL)


def _bands(evaluation: Evaluation, method: str, group: str, counts_BS: Floats) -> Iterator[ScoreLines]:
    truth, own = evaluation.truth, evaluation.kept[method]
    times = truth["thinned"].values.tolist()
    last = truth.sizes["band"] - 1
    for place in range(last):
        error_SL = band_energy(own, "error_bands", group, place)
        drawn = energy_ratio(error_SL, band_energy(truth, "bands", group, place), counts_BS, root=True)
        yield _lines(f"error / truth, {band_title(truth, place)}", group, "1", times, drawn, error_SL)
    energy_SL = band_energy(own, "bands", group, last)
    drawn = energy_ratio(energy_SL, band_energy(truth, "bands", group, last), counts_BS)
    yield _lines("energy of the last octave / truth", group, "1", times, drawn, energy_SL)


def _lines(
    score: str, group: str, units: str, times: Sequence[float], drawn_BL: Floats, values_SL: Floats
) -> ScoreLines:
    defined, infinite = (~np.isnan(values_SL)).sum(axis=0), np.isinf(values_SL).sum(axis=0)
    columns = [drawn_BL[0], *interval(drawn_BL[1:]), defined, infinite]
    return ScoreLines(WHOLE, score, (group,), (units,), tuple(times), np.stack(columns, axis=-1)[:, None])


def _times(array: xr.DataArray) -> list[float]:
    times: list[float] = array["lead_time"].values.tolist()
    return times


def _by_sample(array: xr.DataArray) -> Floats:
    """(S, L) values."""
    return np.asarray(
        array.transpose(..., "lead_time").values.reshape(-1, array.sizes["lead_time"]), np.float64
    )
