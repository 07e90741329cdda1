"""The report's section on physics: spectra, errors by band of wavenumbers, and the drift of conserved quantities."""

from collections.abc import Iterator, Mapping
from typing import Any

import xarray as xr

from pelagos.evaluation.forecast_schema import grid_of
from pelagos.evaluation.frame_sums.spectral_sums import FLOOR
from pelagos.evaluation.inference.estimate import LEVEL
from pelagos.evaluation.report.physics_numbers import has_physics
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.report.score_numbers import ScoreNumbers, numbers_of
from pelagos.evaluation.report.spectral_sections import band_panels, fine_panels, ratio_panels
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation
from pelagos.preprocessing.array_types import Floats


def add_physics(report: Report, evaluation: Evaluation, numbers: ScoreNumbers | None = None) -> None:
    """Add spectra of the fields and the drift of conserved quantities, where both are defined."""
    truth, grid = evaluation.truth, grid_of(evaluation.truth)
    if not has_physics(truth):
        return
    report.section("Spectra and conservation", *_thinning(truth))
    if grid.kind == "cartesian" and not all(grid.even):
        report.text("There are no spectra: they need evenly spaced points, which regrid gives a store.")
    counts = (numbers or numbers_of(evaluation)).scores.counts
    for group in dict.fromkeys(truth["group"].values.tolist()):
        if curves := _time_dependent(evaluation.spectra(group)):
            caption = (
                f"Energy spectrum of {group}: the median over forecasts, and its {100 * LEVEL:.0f} % interval. A"
                " blurred forecast lacks energy at high wavenumbers."
            )
            report.spectra(curves, caption, counts_BS=counts)
            _add_ratios(report, curves, group, counts)
            _add_bands(report, evaluation, group, counts)
    if drifts := _time_dependent(evaluation.drifts):
        report.drift_curves(
            drifts,
            "Change of domain means since the initial frame: the median over forecasts, and its"
            f" {100 * LEVEL:.0f} % interval. What the equation conserves should stay at zero; what it dissipates or"
            " forces should follow the truth.",
            counts,
        )


def _thinning(truth: xr.Dataset) -> Iterator[str]:
    taken, every = truth.sizes["thinned"], truth.sizes["lead_time"]
    if taken < every:
        yield f"Spectra and domain means were taken at {taken} of {every} lead times, spread evenly."


def _add_ratios(report: Report, spectra: Mapping[str, xr.DataArray], group: str, counts_BS: Floats) -> None:
    if len(spectra) < 2:  # the truth alone
        return
    report.panels(
        ratio_panels(spectra, counts_BS),
        f"Energy spectrum of {group} over that of the truth, with {100 * LEVEL:.0f} % intervals, where the truth has"
        f" more than {FLOOR:g} of its energy: below 1 a forecast is blurred, above 1 it is noisy. Means over forecasts;"
        " failed ones are left out.",
    )


def _add_bands(report: Report, evaluation: Evaluation, group: str, counts_BS: Floats) -> None:
    if evaluation.truth.sizes["lead_time"] < 2:
        return
    level = f"{100 * LEVEL:.0f} %"
    report.panels(
        band_panels(evaluation.kept, group, counts_BS),
        f"Error of {group} by band of wavenumbers, relative to the truth's root mean square there, with {level}"
        " intervals; at 1 nothing of the band is forecast. Failed forecasts are left out.",
    )
    report.panels(
        fine_panels({TRUTH: evaluation.truth} | _time_dependent(evaluation.kept), group, counts_BS),
        f"Energy of {group} at the smallest scales over that of the truth, with {level} intervals: in the last resolved"
        " octave, and of what alternates from point to point, as the artefacts of patches and strides do. Below 1 a"
        " forecast is blurred, above 1 it is noisy. Failed forecasts are left out.",
    )


def _time_dependent(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Those that have spectra and drifts of their own: persistence and climatology repeat old frames."""
    constant = ("persistence", "climatology")
    return {name: data for name, data in methods.items() if name not in constant}
