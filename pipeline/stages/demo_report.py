"""The demo's report: the evaluation, and what training, refinement and the registry add to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.evaluation.report.evaluation_report import add_pictures, add_scores
from pelagos.evaluation.report.physics_section import add_physics
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.verification import Evaluation
from pelagos.pipeline.stages.demo_contract import DemoContract
from pelagos.pipeline.stages.refinement_costs import head_cost
from pelagos.pipeline.tracking.tracker import read_metrics


def demo_report(
    summary: Mapping[str, Any], contract: DemoContract, evaluation: Evaluation, runs: Mapping[str, Path]
) -> Report:
    """The report of the demo.

    Args:
        summary: the content of summary.json.
        contract: says which methods are compared, and where the refined forecasts are.
        evaluation: on the downstream equation.
        runs: folders of the training runs, by name.
    """
    report = Report(
        "Pelagos demo",
        "One transformer pretrained on several equations, adapted to a new one, rolled out, refined, registered",
        footer="Every number comes from archives that this run simulated, built, trained on and scored.",
    )
    _add_result(report, summary, contract, evaluation)
    add_scores(report, evaluation)
    _add_training(report, runs)
    add_physics(report, evaluation)
    add_pictures(report, evaluation)
    _add_refinement(report, summary["refinement"], contract.refine.output)
    _add_registry(report, summary)
    return report


def _add_result(
    report: Report, summary: Mapping[str, Any], contract: DemoContract, evaluation: Evaluation
) -> None:
    one_step, rollout = (
        contract.scores(evaluation.scores["methods"], score) for score in ("one_step", "rollout")
    )
    refined = summary["refinement"]
    report.section("Result")
    report.cards(
        [
            ("one step, fine-tuned", one_step.finetuned, f"from scratch {one_step.scratch:.3g}"),
            (
                "rollout, fine-tuned",
                rollout.finetuned,
                f"from scratch {rollout.scratch:.3g}, persistence {rollout.persistence:.3g}",
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


def _add_training(report: Report, runs: Mapping[str, Path]) -> None:
    curves = {}
    for name, folder in runs.items():
        records = [record for record in read_metrics(folder) if "train/loss" in record]
        if records:
            curves[name] = ([r["step"] for r in records], [r["train/loss"] for r in records])
    if not curves:  # a demo may score models that were trained elsewhere
        return
    report.section("Training")
    report.training_curves(
        curves, "Loss of single batches; part of its noise is the changing mix of datasets."
    )


def _add_refinement(report: Report, refined: Mapping[str, Any], folder: Path) -> None:
    report.section(
        "Refinement",
        "A last layer adds a coefficient to every Fourier mode of every frame, fitted to one forecast so that"
        " each frame follows from the one before by the equation's own propagator. It does not see the truth.",
        f"Refining took {refined['refine_seconds']:.3g} CPU s a forecast{head_cost(refined)}. The plain solver,"
        f" started from the same frame, takes {refined['solver_seconds']:.3g} CPU s and reaches an error of"
        f" {refined['solver_error']:.2g}:"
        " refinement corrects a forecast and measures how far it is from its equation; it does not save time.",
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
    before, after = (read_forecasts(folder / f"{name}.zarr") for name in ("forecast", "refined"))
    name = str(next(iter(before.data_vars)))
    chosen = {"trajectory": 0, "start": 0}
    report.fields(
        after[name].isel(chosen),
        {"network": before[name].isel(chosen)},
        f"The refined {name} (top row) and the network's own forecast.",
        reference="refined",
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
