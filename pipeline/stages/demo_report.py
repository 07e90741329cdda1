"""Reports of an evaluation and of the demo, composed of what their stages found."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pelagos.evaluation import conservation, spectra
from pelagos.evaluation.forecast_data import grid_of, group_of, members
from pelagos.evaluation.report.report import Report
from pelagos.pipeline.stages import forecast as forecasts
from pelagos.pipeline.tracking.tracker import history

if TYPE_CHECKING:
    from pelagos.pipeline.stages.evaluate import Evaluation


def evaluation_report(title: str, result: "Evaluation", picture: int = 0) -> Report:
    """The report of one evaluation."""
    about = result.scores
    subtitle = (
        f"{about['dataset']}: {about['trajectories']} trajectories, {about['starts']} start(s) each,"
        f" {len(about['lead_times'])} lead time(s)"
    )
    report = Report(title, subtitle, footer="Made by Pelagos.")
    add_scores(report, result)
    add_physics(report, result)
    add_pictures(report, result, picture)
    return report


def add_scores(report: Report, result: "Evaluation") -> None:
    """A table of errors and their curves over lead time."""
    methods = result.scores["methods"]
    report.section(
        "Scores",
        "The relative L1 error of a forecast is the sum of absolute errors over all points, divided by that of"
        " absolute values of the truth. Given is the median over held-out forecasts, averaged over fields.",
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
            [name, group, errors["rmse"][0], errors["rmse"][-1], _units(result.truth, group)]
            for name, values in methods.items()
            for group, errors in values["groups"].items()
        ],
        "Root mean square error over all forecasts and valid points, the root taken last.",
    )
    if result.truth.sizes["lead_time"] > 1:
        report.error_curves(
            result.errors,
            "Relative L1 error over lead time: median over forecasts, and the middle half of them.",
            "relative L1",
        )


def add_physics(report: Report, result: "Evaluation") -> None:
    """Spectra of the fields and the drift of conserved quantities."""
    complete = not any(bool(result.initial[name].isnull().any()) for name in result.initial.data_vars)
    grid = grid_of(result.truth)
    if not complete or (grid.kind == "latlon" and not grid.periodic[1]):
        return
    report.section("Spectra and conservation")
    methods = {"truth": result.truth, **_learned(result)}
    for group, names in members(group_of(result.truth)).items():
        curves = {name: spectra.spectrum(data, names) for name, data in methods.items()}
        report.spectra(
            curves, f"Energy spectrum of {group}: a forecast that blurs loses the right-hand side."
        )
    drifts = {name: conservation.drift(data, result.initial) for name, data in methods.items()}
    if any(len(drift.data_vars) for drift in drifts.values()):
        report.drift_curves(
            drifts,
            "Change of domain means since the initial frame. What the equation conserves should stay at zero;"
            " what it dissipates or forces should follow the truth.",
        )


def add_pictures(report: Report, result: "Evaluation", picture: int) -> None:
    """Truth, forecasts and errors of one sample."""
    trajectories, starts = result.truth.sizes["trajectory"], result.truth.sizes["start"]
    index = picture % (trajectories * starts)
    chosen = {"trajectory": index // starts, "start": index % starts}
    number = int(result.truth["trajectory"].values[chosen["trajectory"]])
    report.section("Pictures")
    for name in list(result.truth.data_vars)[:3]:
        truth = result.truth[name].isel(chosen)
        shown = {method: data[name].isel(chosen) for method, data in result.forecasts.items()}
        kept = {method: field for method, field in shown.items() if method != "persistence" or len(shown) < 3}
        report.fields(truth, kept, f"Truth, forecast and error of {name} in held-out trajectory {number}.")


def demo_report(
    summary: Mapping[str, Any], result: "Evaluation", refinement: Path, runs: Mapping[str, Path]
) -> Report:
    """The report of the demo.

    Args:
        summary: as in summary.json.
        result: of the downstream evaluation.
        refinement: folder of the refine stage.
        runs: folders of the training runs, by name.
    """
    one_step, refined = summary["downstream"]["one_step"], summary["refinement"]
    report = Report(
        "Pelagos demo",
        "One transformer pretrained on several equations, adapted to a new one, rolled out, refined, registered",
        footer="Every number comes from archives that this run simulated, built, trained on and scored.",
    )
    report.section("Result")
    report.cards(
        [
            ("one step, fine-tuned", one_step["finetuned"], f"from scratch {one_step['scratch']:.3g}"),
            (
                "rollout, fine-tuned",
                summary["downstream"]["rollout"]["finetuned"],
                f"from scratch {summary['downstream']['rollout']['scratch']:.3g},"
                f" persistence {summary['downstream']['rollout']['persistence']:.3g}",
            ),
            (
                "refined forecast",
                refined["error_after"],
                f"before {refined['error_before']:.3g} (relative L2)",
            ),
            (
                "total time",
                f"{summary['seconds']['total']:.0f} s",
                f"peak {summary['peak_memory_bytes'] / 2**30:.1f} GiB",
            ),
        ]
    )
    add_scores(report, result)
    _add_training(report, runs)
    add_physics(report, result)
    add_pictures(report, result, 0)
    _add_refinement(report, refined, refinement)
    _add_registry(report, summary)
    return report


def _add_training(report: Report, runs: Mapping[str, Path]) -> None:
    report.section("Training")
    curves = {}
    for name, folder in runs.items():
        records = [record for record in history(folder) if "train/loss" in record]
        if records:
            curves[name] = ([r["step"] for r in records], [r["train/loss"] for r in records])
    report.training_curves(curves, "Loss of single batches: the mixture's noise is part of it.")


def _add_refinement(report: Report, refined: Mapping[str, Any], folder: Path) -> None:
    report.section(
        "Refinement",
        "A last layer adds a coefficient to every Fourier mode of every frame, fitted to one forecast so that"
        " each frame follows from the one before by the equation's own propagator. It needs no truth.",
        f"Refining took {refined['refine_seconds']:.2g} s a forecast. The plain solver, started from the same"
        f" frame, takes {refined['solver_seconds']:.2g} s and reaches an error of {refined['solver_error']:.2g}:"
        " refinement mends a forecast and measures how far it is from its equation; it does not save time.",
    )
    names = ("error_before", "error_after", "residual_before", "residual_after")
    report.table(
        ["forecast", "error before", "error after", "residual before", "residual after", "evaluations"],
        [
            [str(number), *(record[name] for name in names), record["evaluations"]]
            for number, record in enumerate(refined["forecasts"])
        ],
        "Relative L2 errors against the held-out truth, and relative residuals, of each refined forecast.",
    )
    before, after = (forecasts.read(folder / f"{name}.zarr") for name in ("forecast", "refined"))
    name = str(next(iter(before.data_vars)))
    chosen = {"trajectory": 0, "start": 0}
    report.fields(
        after[name].isel(chosen),
        {"network": before[name].isel(chosen)},
        f"The refined {name} (top row) and what the network had forecast.",
    )


def _add_registry(report: Report, summary: Mapping[str, Any]) -> None:
    registry = summary["registry"]
    same = "the same to the last bit" if registry["forecast_identical"] else "different"
    report.section(
        "Registry and cost",
        f"The fine-tuned model is version {registry['version']} of `{registry['name']}`, alias"
        f" `{registry['alias']}`. Loaded back by its alias in a fresh process, its forecasts were {same}.",
    )
    report.seconds(
        {name: value for name, value in summary["seconds"].items() if name != "total"},
        "Seconds of each stage.",
    )


def _learned(result: "Evaluation") -> dict[str, xr.Dataset]:
    constant = ("persistence", "climatology")
    return {name: data for name, data in result.forecasts.items() if name not in constant}


def _units(truth: xr.Dataset, group: str) -> str:
    units = [str(truth[name].attrs.get("units", "1")) for name in members(group_of(truth))[group]]
    return ", ".join(np.unique(units))
