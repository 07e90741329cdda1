"""The report of several evaluations of the same forecasts, side by side, with a paired test of every two models."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pelagos.evaluation.report.evaluation_report import add_numbers, add_scores
from pelagos.evaluation.report.paired_section import add_tests, run_tests
from pelagos.evaluation.report.physics_section import add_physics
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.report.report_facts import ReportFacts
from pelagos.evaluation.report.score_numbers import ScoreNumbers, numbers_of
from pelagos.evaluation.streaming.kept_statistics import SAMPLES
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation
from pelagos.preprocessing.errors import DataError

_SAME = ("dataset", "version", "split", "lead_times", "time_units", "units", "scales")
"""What evaluations must agree in for their scores to be of one thing."""


def comparison_report(
    runs: Mapping[str, Evaluation], reach: int = 0, facts: Mapping[str, ReportFacts] | None = None
) -> tuple[Report, ScoreNumbers, list[dict[str, Any]]]:
    """The report, its numbers and its tests, see `ConventionScores.comparisons`.

    Args:
        runs: evaluations by name.
        reach: frames from a start to the end of its forecast; 0 where it is not known.
        facts: what is known of each run.

    Raises:
        DataError: the evaluations are not of the same forecasts.
    """
    evaluation = merged(runs)
    about, numbers = evaluation.scores, numbers_of(evaluation, reach)
    report = Report(
        f"{' and '.join(runs)} side by side",
        f"{about['dataset']}, split {about['split']}: the same {about['trajectories']} trajectories and"
        f" {about['starts']} start(s) each",
        footer="Made by Pelagos.",
    )
    tests = run_tests(numbers)
    report.section("Paired tests")
    add_tests(report, tests)
    add_scores(report, evaluation, numbers)
    add_physics(report, evaluation)
    report.section("What was scored")
    for name, known in (facts or {}).items():
        report.facts(f"Data of {name}", known.data)
        for model, lines in known.models.items():
            report.facts(f"Model {model} of {name}", lines)
    add_numbers(report, numbers)
    return report, numbers, tests


def merged(runs: Mapping[str, Evaluation]) -> Evaluation:
    """One evaluation of the models of all runs, and of the baselines of the first that has them.

    Raises:
        DataError: they are not of the same forecasts.
    """
    first_name, first = next(iter(runs.items()))
    for name, one in runs.items():
        _require_same(first_name, first, name, one)
    counts = Counter(method for one in runs.values() for method in one.scores["models"])
    kept, models, methods = {TRUTH: first.truth}, {}, {}
    for run, one in runs.items():
        for method in one.methods:
            is_model = method in one.scores["models"]
            label = f"{run}: {method}" if is_model and counts[method] > 1 else method
            if label in kept:  # a baseline is the same in all runs
                continue
            kept[label], methods[label] = one.kept[method], one.scores["methods"][method]
            if is_model:
                models[label] = one.scores["models"][method]
    ordered = sorted(methods, key=lambda label: label not in models)  # models first, in the order of the runs
    return Evaluation(
        {**first.scores, "models": models, "methods": {label: methods[label] for label in ordered}},
        {TRUTH: kept[TRUTH], **{label: kept[label] for label in ordered}},
    )


def _require_same(first_name: str, first: Evaluation, name: str, other: Evaluation) -> None:
    for key in _SAME:
        one, two = first.scores[key], other.scores[key]
        if one != two:
            raise DataError(
                f"{first_name} and {name} are not of the same forecasts: {key} is {_short(one)} and {_short(two)}"
            )
    for dim in SAMPLES:
        axes = [run.truth[dim].values if dim in run.truth.dims else np.empty(0) for run in (first, other)]
        if not np.array_equal(axes[0], axes[1]):
            raise DataError(
                f"{first_name} and {name} are not of the same forecasts: they have {len(axes[0])} and {len(axes[1])}"
                f" entries along {dim}, or others; evaluate both with the same `starts`"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."
