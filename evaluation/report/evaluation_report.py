"""The report of an evaluation: scores, spectra, conserved quantities, and pictures of one forecast."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pelagos.evaluation.forecast_schema import grid_of
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.score_summary import describe_failures, describe_left_out, groups_of
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation


def evaluation_report(title: str, evaluation: Evaluation) -> Report:
    """The report of one evaluation."""
    about = evaluation.scores
    subtitle = (
        f"{about['dataset']}: {about['trajectories']} trajectories of split {about['split']},"
        f" {about['starts']} start(s) each, {len(about['lead_times'])} lead time(s)"
    )
    report = Report(title, subtitle, footer="Made by Pelagos.")
    add_scores(report, evaluation)
    add_physics(report, evaluation)
    add_pictures(report, evaluation)
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
                _units(evaluation, group),
                errors["failed"][-1],
            ]
            for name, values in about["methods"].items()
            for group, errors in values["groups"].items()
        ],
        "Root mean square error over all forecasts and valid points; the root is taken last.",
    )
    if len(about["lead_times"]) > 1:
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
    truth, grid = evaluation.truth, grid_of(evaluation.truth)
    # Neither a transform nor a mean over the domain makes sense of fields with holes,
    # and wavenumbers on a sphere need whole circles of latitude.
    if not bool(truth["complete"].all()) or (grid.kind == "latlon" and not grid.periodic[1]):
        return
    report.section("Spectra and conservation")
    if grid.kind == "cartesian" and not all(grid.even):
        report.text("There are no spectra: they need evenly spaced points, which regrid gives a store.")
    for group in dict.fromkeys(truth["group"].values.tolist()):
        if curves := _time_dependent(evaluation.spectra(group)):
            caption = f"Energy spectrum of {group}; a blurred forecast lacks energy at high wavenumbers."
            report.spectra(curves, caption)
    if drifts := _time_dependent(evaluation.drifts):
        report.drift_curves(
            drifts,
            "Change of domain means since the initial frame. What the equation conserves should stay at zero;"
            " what it dissipates or forces should follow the truth.",
        )


def add_pictures(report: Report, evaluation: Evaluation) -> None:
    """Add the truth, forecasts and errors of one sample."""
    about = evaluation.scores
    report.section("Pictures")
    for name in evaluation.truth["variable"].values[:3]:
        shown = evaluation.pictures(name)
        truth = shown.pop(TRUTH)
        # Persistence is a copy of the initial frame: beside several forecasts it only takes space.
        kept = {method: field for method, field in shown.items() if method != "persistence" or len(shown) < 3}
        caption = f"Truth, forecast and error of {name} in {_kind(about['split'])} {about['pictured']}."
        report.fields(truth, kept, caption)


def _time_dependent(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Those that have spectra and drifts of their own: persistence and climatology repeat old frames."""
    constant = ("persistence", "climatology")
    return {name: data for name, data in methods.items() if name not in constant}


def _kind(split: str) -> str:
    kinds = {"test": "held-out trajectory", "valid": "validation trajectory", "train": "training trajectory"}
    return kinds.get(split, "trajectory")


def _units(evaluation: Evaluation, group: str) -> str:
    members = evaluation.truth["group"].values == group
    return ", ".join(np.unique(evaluation.truth["units"].values[members]))
