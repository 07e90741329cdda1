"""The report of an evaluation: scores, spectra, conserved quantities, and pictures of one forecast."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation import conservation, spectra
from pelagos.evaluation.forecast_schema import grid_of, group_by_variable, variables_by_group
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.score_summary import describe_failures, describe_left_out, groups_of
from pelagos.evaluation.verification import Evaluation


def evaluation_report(title: str, evaluation: Evaluation, sample: int = 0) -> Report:
    """The report of one evaluation, with pictures of one of its samples."""
    about = evaluation.scores
    subtitle = (
        f"{about['dataset']}: {about['trajectories']} trajectories of split {about['split']},"
        f" {about['starts']} start(s) each, {len(about['lead_times'])} lead time(s)"
    )
    report = Report(title, subtitle, footer="Made by Pelagos.")
    add_scores(report, evaluation)
    add_physics(report, evaluation)
    add_pictures(report, evaluation, sample)
    return report


def add_scores(report: Report, evaluation: Evaluation) -> None:
    """Add what was scored, tables of errors, and the errors' curves over lead time."""
    about = evaluation.scores
    report.section("Scores", *_explanations(about))
    _add_models(report, about)
    _add_headline(report, about["methods"])
    report.table(
        ["method", "field", "RMSE at the first lead time", "at the last", "units", "failed at the last"],
        [
            [
                name,
                group,
                errors["rmse"][0],
                errors["rmse"][-1],
                _units(evaluation.truth, group),
                errors["failed"][-1],
            ]
            for name, values in about["methods"].items()
            for group, errors in values["groups"].items()
        ],
        "Root mean square error over all forecasts and valid points; the root is taken last.",
    )
    if evaluation.truth.sizes["lead_time"] > 1:
        horizons = {name: facts["horizon"] for name, facts in about["models"].items() if facts.get("horizon")}
        beyond = {name: time for name, time in horizons.items() if time < about["lead_times"][-1]}
        end = " Upright lines mark the longest lead time that a model was trained on." if beyond else ""
        report.error_curves(
            evaluation.errors,
            f"Relative L1 error over lead time: the median over forecasts, and the middle half of them.{end}",
            "relative L1",
            beyond,
        )


def _explanations(about: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "The relative L1 error of a forecast is the sum of its absolute errors over all points, divided by the"
        " sum of the absolute values of the truth. The table gives the median over the forecasts of"
        f" {_origin(about)}, averaged over fields."
    )
    if about["split"] == "train":
        yield (
            "These frames are of the training split: the scores say how well models fit what they have seen, not how"
            " well they forecast."
        )
    if offsets := [name for name, scale in about["scales"].items() if abs(scale["mean"]) > 3 * scale["std"]]:
        yield (
            f"The mean of {', '.join(offsets)} is large beside the deviation, so that the relative error is small"
            " whatever the forecast. The normalised errors are those of (field − mean) / deviation, with the"
            " moments of the training split, as Poseidon takes them."
        )
    if any(values["failed"]["forecasts"] for values in about["methods"].values()):
        yield (
            "A forecast that is not a number somewhere counts as failed, and as infinitely wrong at that lead time:"
            " pooled errors become infinite, whereas a median does not move before half of the forecasts have failed."
        )
    if lines := describe_left_out(about):
        yield "; ".join(lines) + "."


def _origin(about: Mapping[str, Any]) -> str:
    """Where the scored frames come from."""
    split = f"split `{about['split']}`" if about["split"] else "the chosen frames"
    return f"{split} of {about['dataset']}, version {about['version']}"


def _add_models(report: Report, about: Mapping[str, Any]) -> None:
    if not about["models"]:
        return
    unit = "" if about["time_units"] == "1" else f" [{about['time_units']}]"
    report.table(
        ["method", "model", f"trained up to lead time{unit}"],
        [
            [name, facts["model"], facts.get("horizon") or "not recorded"]
            for name, facts in about["models"].items()
        ],
        f"The models. Baselines are fitted to split {about['training_split']}.",
    )


def _add_headline(report: Report, methods: Mapping[str, Mapping[str, Any]]) -> None:
    first, mean = "first lead time", "mean over lead times"
    columns = [first, mean, f"normalised, {first}", f"normalised, {mean}"]
    total = len(groups_of(methods))
    rows = []
    for name, values in methods.items():
        parts = values, values["normalised"]
        fields = f" ({len(values['groups'])} of {total} fields)" if len(values["groups"]) < total else ""
        errors = [part[key] for part in parts for key in ("one_step", "rollout")]
        rows.append([name + fields, *errors, describe_failures(values)])
    caption = "Median relative L1 error; the best value of each column is bold."
    report.table(["method", *columns, "failed forecasts"], rows, caption, lowest=columns)


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
        have = {name: data for name, data in methods.items() if set(names) <= set(data.data_vars)}
        curves = {name: spectra.spectrum(data, names) for name, data in have.items()}
        report.spectra(
            curves, f"Energy spectrum of {group}; a blurred forecast lacks energy at high wavenumbers."
        )
    # A density made of other fields, such as momentum without mass, is another quantity of the same name.
    whole = {name: data for name, data in methods.items() if set(data.data_vars) >= set(initial.data_vars)}
    drifts = {name: conservation.drift(data, initial) for name, data in whole.items()}
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
        have = {method: data for method, data in evaluation.forecasts.items() if name in data}
        shown = {method: data[name].isel(chosen) for method, data in have.items()}
        # Persistence is a copy of the initial frame: beside several forecasts it only takes space.
        kept = {method: field for method, field in shown.items() if method != "persistence" or len(shown) < 3}
        caption = f"Truth, forecast and error of {name} in {_kind(evaluation.scores['split'])} {number}."
        report.fields(truth[name].isel(chosen), kept, caption)


def _time_dependent(evaluation: Evaluation) -> dict[str, xr.Dataset]:
    """The forecasts that have spectra and drifts of their own: persistence and climatology repeat old frames."""
    constant = ("persistence", "climatology")
    return {name: data for name, data in evaluation.forecasts.items() if name not in constant}


def _kind(split: str) -> str:
    kinds = {"test": "held-out trajectory", "valid": "validation trajectory", "train": "training trajectory"}
    return kinds.get(split, "trajectory")


def _units(truth: xr.Dataset, group: str) -> str:
    names = variables_by_group(group_by_variable(truth))[group]
    return ", ".join(np.unique([str(truth[name].attrs.get("units", "1")) for name in names]))
