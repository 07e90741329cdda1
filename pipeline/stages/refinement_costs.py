"""Refinement costs: what refining each forecast gained and took, and the medians over all of them.

Shapes: N forecasts of a batch, M frames, C channels, H rows, W columns.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pelagos.models.refinement.minimal_residual import Refinement
from pelagos.pipeline.forecasting.plain_solver import solve
from pelagos.pipeline.forecasting.refinement_batches import RefinementBatch

_SECONDS = ("head_seconds", "refine_seconds", "solver_seconds")
_FAILING = {
    "residual_before": "the network's forecast, or what the solver makes of it,",
    "residual_of_head": "what the head makes of the forecast",
    "solver_error": "the plain solver's forecast",
    "residual_of_truth": "what the solver makes of the truth",
}
"""What has failed where a figure is infinite."""


def records_of(
    batch: RefinementBatch,
    result: Refinement,
    filtered_NMCHW: Tensor | None,
    head_seconds: float,
    compared: Mapping[str, Tensor],
) -> list[dict[str, Any]]:
    """Costs of each forecast, and of the plain solver from the same frame; errors where the truth is known.

    What failed counts as infinite, as in evaluations. Forecasts whose truth has missing values have no errors.

    Args:
        batch: the forecasts.
        result: what refining made of them.
        filtered_NMCHW: what the head makes of them; None without one.
        head_seconds: processor time that the head took for all of them.
        compared: other figures of each, by name.
    """
    given = batch.forecasts
    solved, solver_seconds = solve(given.problem, given.anchor, given.frames.shape[1])
    residuals = {"residual_before": result.residual_before, "residual_after": result.residual_after}
    residuals |= compared
    if filtered_NMCHW is not None:
        filtered = given.problem.relative_residual(filtered_NMCHW, given.anchor, given.frames)
        residuals["residual_of_head"] = filtered
    errors, complete_N = dict[str, Tensor](), torch.zeros(len(batch.places), dtype=torch.bool)
    if batch.truth is not None:
        named = {"error_before": given.frames, "error_after": result.frames, "solver_error": solved}
        named |= {} if filtered_NMCHW is None else {"error_of_head": filtered_NMCHW}
        errors = {name: _relative_l2(frames, batch.truth) for name, frames in named.items()}
        errors["residual_of_truth"] = given.problem.relative_residual(batch.truth, given.anchor)
        complete_N = batch.truth.isfinite().flatten(1).all(1)
    count = len(batch.places)
    shared = {
        "evaluations": result.evaluations,
        "refine_seconds": result.cpu_seconds / count,
        "solver_seconds": solver_seconds / count,
        **({} if filtered_NMCHW is None else {"head_seconds": head_seconds / count}),
    }
    return [
        {name: _or_infinite(of_all[n]) for name, of_all in (residuals | (errors if known else {})).items()}
        | {"accepted": bool(result.accepted[n]), **shared}
        for n, known in enumerate(complete_N.tolist())
    ]


def _or_infinite(figure: Tensor) -> float:
    return math.inf if figure.isnan() else float(figure)


def _relative_l2(frames_NMCHW: Tensor, exact_NMCHW: Tensor) -> Tensor:
    """(N,) over all frames and fields of a forecast."""
    error, size = (values.flatten(1).norm(dim=1) for values in (frames_NMCHW - exact_NMCHW, exact_NMCHW))
    # Of a truth that is zero throughout, a forecast without an error has none, and any other an infinite one.
    relative_N: Tensor = error / size.where(error > 0, 1)
    return relative_N


def progress_of(record: Mapping[str, Any]) -> str:
    """The latest forecast's figures, beside the bar."""
    told = "error" if "error_before" in record else "residual"
    return f"{told} {record[f'{told}_before']:.2e} -> {record[f'{told}_after']:.2e}"


def summarise(records: Sequence[Mapping[str, Any]], *, truth: bool) -> dict[str, Any]:
    """Medians over forecasts of relative L2 errors and residuals, and mean processor seconds for each forecast.

    Args:
        records: of each forecast; errors are the medians of those that have them, and are left out where none has.
        truth: whether the store holds the frames that are forecast.
    """
    figures = [name for name, value in max(records, key=len).items() if isinstance(value, float)]
    summary: dict[str, Any] = {
        name: statistics.median(record[name] for record in records if name in record)
        for name in figures
        if name not in _SECONDS
    }
    summary |= {
        name: statistics.fmean(record[name] for record in records) for name in _SECONDS if name in records[0]
    }
    summary["accepted"] = sum(record["accepted"] for record in records)
    summary["failed"] = sum(math.isinf(record["residual_before"]) for record in records)
    if truth:
        summary["incomplete_truth"] = sum("error_before" not in record for record in records)
    return {**summary, "forecasts": list(records)}


def cost_lines(costs: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal says of a summary."""
    known = "error_before" in costs
    told, what = ("error", "relative L2 error") if known else ("residual", "relative residual")
    solver = f" and has error {costs['solver_error']:.3g}" if known else ""
    yield (
        f"refinement: {what} {costs[f'{told}_before']:.3g} -> {costs[f'{told}_after']:.3g}"
        f" in {costs['refine_seconds']:.3g} CPU s a forecast{head_cost(costs)}; the plain solver takes"
        f" {costs['solver_seconds']:.3g} CPU s{solver}"
    )
    if known:
        yield (
            f"residual: {costs['residual_before']:.3g} -> {costs['residual_after']:.3g}; of the truth itself"
            f" {costs['residual_of_truth']:.3g}, below which refinement fits the solver rather than the data"
        )
    if "released_before" in costs:
        figures = f"{costs['released_before']:.3g} -> {costs['released_after']:.3g}"
        yield f"the released loss, which is as small for any other frames: {figures}"
    if "residual_of_head" in costs:
        error = f", error {costs['error_of_head']:.3g}" if known else ""
        yield f"after the head alone: residual {costs['residual_of_head']:.3g}{error}"
    yield _acceptance(costs)
    yield from _exceptions(costs)


def head_cost(costs: Mapping[str, Any]) -> str:
    """What a head takes on top of the seconds of refining; empty without one."""
    if "head_seconds" not in costs:
        return ""
    return (
        f" and {costs['head_seconds']:.3g} for the head, whose training took {costs['head_training_seconds']:.3g}"
        f" ({costs['head_training_seconds_each']:.3g} for each forecast that it learnt from)"
    )


def _acceptance(costs: Mapping[str, Any]) -> str:
    records = costs["forecasts"]
    said = f"accepted: {costs['accepted']} of {len(records)}; the others' residual did not fall"
    failed = sum(not record["accepted"] and math.isinf(record["residual_before"]) for record in records)
    return f"{said}, or is not finite ({failed})" if failed else said


def _exceptions(costs: Mapping[str, Any]) -> Iterator[str]:
    """Which forecasts the medians leave out, and which they count as infinite."""
    records = costs["forecasts"]
    if number := costs.get("incomplete_truth"):
        yield (
            f"note: the truth of {number} of {len(records)} forecasts has missing values: these are left out of all"
            " errors and of the residual of the truth"
        )
    for name, what in _FAILING.items():
        if number := sum(math.isinf(record.get(name, 0.0)) for record in records):
            yield f"note: {what} is not finite in {number} of {len(records)} cases, which counts as infinite"
