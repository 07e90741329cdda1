"""Paired tests of a report: which differences between methods are more than chance."""

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos.evaluation.conventions.convention_scores import HEADLINE
from pelagos.evaluation.inference.estimate import Estimate
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.report.score_numbers import ScoreNumbers


def run_tests(numbers: ScoreNumbers) -> list[dict[str, Any]]:
    """Tests of every two methods of which one is a model, see `ConventionScores.comparisons`."""
    models = numbers.evaluation.scores["models"]
    tests = (test for one in HEADLINE for test in numbers.scores.comparisons(one))
    return [test for test in tests if test["first"] in models or test["second"] in models]


def add_tests(report: Report, tests: Sequence[Mapping[str, Any]]) -> None:
    """Add a table of paired tests, and how to read it."""
    report.text(
        "Every model is held against every other method on the same starts. The difference is the first score minus the"
        " second: below zero the first is better. Forecasts that are drawn together in the bootstrap count as one in"
        " the other tests, too."
    )
    if not tests:
        report.text("No two methods have the same fields, so that none can be compared.")
        return
    if len(tests) > 1:
        report.text(
            f"With {len(tests)} tests, about {0.05 * len(tests):.2g} of them fall below 0.05 by chance alone, even"
            " where nothing differs."
        )
    columns = [
        "score",
        "first",
        "second",
        "difference",
        "better : worse : equal",
        "p, bootstrap",
        "p, signs",
        "p, ranks",
    ]
    report.table(columns, [_line(test) for test in tests], "Relative L1 errors as in the table of scores.")


def _line(test: Mapping[str, Any]) -> list[Any]:
    shown = test["difference"]
    value, low, high = (
        float("nan") if shown[name] is None else shown[name] for name in ("value", "low", "high")
    )
    difference = Estimate(value, low, high, shown["n"], shown["failed"])
    counts = f"{test['lower']} : {test['higher']} : {test['ties']}"
    probabilities = [test[name] for name in ("bootstrap_p", "sign_p", "wilcoxon_p")]
    return [
        test["score"].replace("_", " "),
        test["first"],
        test["second"],
        difference,
        counts,
        *probabilities,
    ]
