"""The report of an evaluation: scores, spectra, conserved quantities, and pictures of one forecast."""

import numpy as np
import xarray as xr

from pelagos.evaluation import conservation, spectra
from pelagos.evaluation.forecast_schema import grid_of, group_by_variable, variables_by_group
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.verification import Evaluation


def evaluation_report(title: str, evaluation: Evaluation, sample: int = 0) -> Report:
    """The report of one evaluation, with pictures of one of its samples."""
    about = evaluation.scores
    subtitle = (
        f"{about['dataset']}: {about['trajectories']} trajectories, {about['starts']} start(s) each,"
        f" {len(about['lead_times'])} lead time(s)"
    )
    report = Report(title, subtitle, footer="Made by Pelagos.")
    add_scores(report, evaluation)
    add_physics(report, evaluation)
    add_pictures(report, evaluation, sample)
    return report


def add_scores(report: Report, evaluation: Evaluation) -> None:
    """Add tables of errors, and the errors' curves over lead time."""
    methods = evaluation.scores["methods"]
    report.section(
        "Scores",
        "The relative L1 error of a forecast is the sum of its absolute errors over all points, divided by the"
        " sum of the absolute values of the truth. The table gives the median over held-out forecasts, averaged"
        " over fields.",
    )
    rows = [[name, values["one_step"], values["rollout"]] for name, values in methods.items()]
    report.table(
        ["method", "first lead time", "mean over lead times"],
        rows,
        "Median relative L1 error; the best value of each column is bold.",
        lowest=["first lead time", "mean over lead times"],
    )
    report.table(
        ["method", "field", "RMSE at the first lead time", "at the last", "units"],
        [
            [name, group, errors["rmse"][0], errors["rmse"][-1], _units(evaluation.truth, group)]
            for name, values in methods.items()
            for group, errors in values["groups"].items()
        ],
        "Root mean square error over all forecasts and valid points; the root is taken last.",
    )
    if evaluation.truth.sizes["lead_time"] > 1:
        report.error_curves(
            evaluation.errors,
            "Relative L1 error over lead time: the median over forecasts, and the middle half of them.",
            "relative L1",
        )


def add_physics(report: Report, evaluation: Evaluation) -> None:
    """Add spectra of the fields and the drift of conserved quantities, where both are defined."""
    initial, grid = evaluation.initial, grid_of(evaluation.truth)
    # Neither a transform nor a mean over the domain makes sense of fields with holes,
    # and wavenumbers on a sphere need whole circles of latitude.
    complete = not any(bool(initial[name].isnull().any()) for name in initial.data_vars)
    if not complete or (grid.kind == "latlon" and not grid.periodic[1]):
        return
    report.section("Spectra and conservation")
    methods = {"truth": evaluation.truth, **_time_dependent(evaluation)}
    groups = variables_by_group(group_by_variable(evaluation.truth))
    if grid.kind == "cartesian" and not all(grid.even):
        report.text("There are no spectra: they need evenly spaced points, which regrid gives a store.")
        groups = {}
    for group, names in groups.items():
        curves = {name: spectra.spectrum(data, names) for name, data in methods.items()}
        report.spectra(
            curves, f"Energy spectrum of {group}; a blurred forecast lacks energy at high wavenumbers."
        )
    drifts = {name: conservation.drift(data, initial) for name, data in methods.items()}
    if any(len(drift.data_vars) for drift in drifts.values()):
        report.drift_curves(
            drifts,
            "Change of domain means since the initial frame. What the equation conserves should stay at zero;"
            " what it dissipates or forces should follow the truth.",
        )


def add_pictures(report: Report, evaluation: Evaluation, sample: int) -> None:
    """Add the truth, forecasts and errors of one sample, counted over trajectories and starts."""
    truth = evaluation.truth
    trajectories, starts = truth.sizes["trajectory"], truth.sizes["start"]
    index = sample % (trajectories * starts)
    chosen = {"trajectory": index // starts, "start": index % starts}
    number = int(truth["trajectory"].values[chosen["trajectory"]])
    report.section("Pictures")
    for name in list(truth.data_vars)[:3]:
        shown = {method: data[name].isel(chosen) for method, data in evaluation.forecasts.items()}
        # Persistence is a copy of the initial frame: beside several forecasts it only takes space.
        kept = {method: field for method, field in shown.items() if method != "persistence" or len(shown) < 3}
        caption = f"Truth, forecast and error of {name} in held-out trajectory {number}."
        report.fields(truth[name].isel(chosen), kept, caption)


def _time_dependent(evaluation: Evaluation) -> dict[str, xr.Dataset]:
    """The forecasts that have spectra and drifts of their own: persistence and climatology repeat old frames."""
    constant = ("persistence", "climatology")
    return {name: data for name, data in evaluation.forecasts.items() if name not in constant}


def _units(truth: xr.Dataset, group: str) -> str:
    names = variables_by_group(group_by_variable(truth))[group]
    return ", ".join(np.unique([str(truth[name].attrs.get("units", "1")) for name in names]))
