"""Refinement costs: medians over forecasts that can be judged, and a word on those that cannot."""

import json
import math
from typing import Any

from pelagos.evaluation.score_summary import json_values
from pelagos.pipeline.stages.refinement_costs import cost_lines, summarise


def record(error: float | None, residual: float, *, accepted: bool = True) -> dict[str, Any]:
    """Of a forecast whose error and residual refining halves."""
    errors = {
        "error_before": error,
        "error_after": (error or 0) / 2,
        "solver_error": 0.1,
        "residual_of_truth": 0.01,
    }
    return {
        "residual_before": residual,
        "residual_after": residual / 2,
        **({} if error is None else errors),
        "accepted": accepted,
        "evaluations": 3,
        "refine_seconds": 1.0,
        "solver_seconds": 0.5,
    }


def test_a_forecast_without_whole_truth_counts_for_residuals_alone() -> None:
    costs = summarise([record(None, 8.0), record(0.2, 2.0), record(0.6, 4.0)], truth=True)
    assert (costs["error_before"], costs["error_after"], costs["residual_before"]) == (0.4, 0.2, 4.0)
    assert costs["incomplete_truth"] == 1
    assert "note: the truth of 1 of 3 forecasts has missing values" in "\n".join(cost_lines(costs))


def test_without_any_whole_truth_residuals_are_told() -> None:
    costs = summarise([record(None, 8.0), record(None, 2.0)], truth=True)
    first, *rest = cost_lines(costs)
    assert first.startswith("refinement: relative residual 5 -> 2.5 ")
    assert "2 of 2" in rest[-1]


def test_a_failed_forecast_counts_as_infinite_whatever_the_order_and_is_counted() -> None:
    failed = record(math.inf, math.inf, accepted=False)
    others = [record(0.2, 2.0), record(0.6, 4.0, accepted=False)]
    for records in ([failed, *others], [*others, failed]):
        costs = summarise(records, truth=True)
        assert (costs["error_before"], costs["residual_before"], costs["failed"]) == (0.6, 4.0, 1)
        said = "\n".join(cost_lines(costs))
        assert "accepted: 1 of 3; the others' residual did not fall, or is not finite (1)" in said
        assert "is not finite in 1 of 3 cases" in said
        json.dumps(json_values(costs), allow_nan=False)


def test_nothing_more_is_said_where_nothing_is_left_out() -> None:
    costs = summarise([record(0.2, 2.0), record(0.6, 4.0)], truth=True)
    assert (costs["failed"], costs["incomplete_truth"]) == (0, 0)
    assert [line.split(":")[0] for line in cost_lines(costs)] == ["refinement", "residual", "accepted"]


def test_the_heads_cost_is_told_beside_that_of_refining() -> None:
    training = {"head_training_seconds": 6.0, "head_training_seconds_each": 1.5}
    records = [record(0.2, 2.0) | {"head_seconds": seconds} for seconds in (0.02, 0.04)]
    costs = training | summarise(records, truth=True)
    assert costs["head_seconds"] == 0.03
    first, *_ = cost_lines(costs)
    assert "in 1 CPU s a forecast and 0.03 for the head, whose training took 6 (1.5 for each" in first
    assert "head" not in next(cost_lines(summarise([record(0.2, 2.0)], truth=True)))
