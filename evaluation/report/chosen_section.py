"""Chosen scores of a report: horizons, the scores that were asked for, and those of a benchmark's convention."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pelagos.evaluation.inference.estimate import Estimate
from pelagos.evaluation.report.chart import Curve, Panel
from pelagos.evaluation.report.curves import quantity
from pelagos.evaluation.report.markup import Cell
from pelagos.evaluation.report.report import Report


def add_chosen(report: Report, about: Mapping[str, Any]) -> None:
    """Add what scores.json holds beyond the headline, where it holds any of it."""
    chosen = {name: values.get("scores", {}) for name, values in about["methods"].items()}
    horizons = {name: values.get("horizons", {}) for name, values in about["methods"].items()}
    convention = about.get("convention")
    if not any(chosen.values()) and not any(horizons.values()) and convention is None:
        return
    report.section("Horizons and chosen scores")
    _add_horizons(
        report, horizons, "" if about["time_units"] == "1" else about["time_units"], about["lead_times"][-1]
    )
    _add_scores(report, chosen, "Scores that were asked for.")
    _add_ranks(report, about["methods"])
    if lines := [
        f"{name}: {', '.join(map(_words, values['without']))}"
        for name, values in about["methods"].items()
        if values.get("without")
    ]:
        report.text(f"Scores that cannot be had of these forecasts: {'; '.join(lines)}.")
    if convention is not None:
        kind = f"{convention['fields']} fields, points weigh {convention['points']}"
        own = {name: values["scores"] for name, values in convention["methods"].items()}
        _add_scores(report, own, f"By the convention {convention['name']}: {kind}.")


def _add_horizons(report: Report, horizons: Mapping[str, Any], unit: str, last: float) -> None:
    meanings = {one: values["meaning"] for known in horizons.values() for one, values in known.items()}
    rows: list[list[Cell]] = [
        [_words(one), name, estimate(known[one]["median"], float("inf")), estimate(known[one]["share"])]
        for one in meanings
        for name, known in horizons.items()
        if one in known
    ]
    if rows:
        meaning = "; ".join(f"{_words(one)}: {text}" for one, text in meanings.items())
        caption = f"∞ is beyond the last lead time, {quantity(last, unit)}. {meaning}."
        columns = ["horizon", "method", f"median{f' [{unit}]' if unit else ''}", "share that reached it"]
        report.table(columns, rows, caption)


def _add_scores(report: Report, methods: Mapping[str, Mapping[str, Any]], caption: str) -> None:
    names = dict.fromkeys(one for scores in methods.values() for one in scores)
    rows: dict[str, list[list[Cell]]] = {
        score: [
            [_words(score), name, field, shown]
            for name, scores in methods.items()
            if score in scores
            for field, shown in _estimates(scores[score])
            if not np.isnan(shown.value) or shown.failed
        ]
        for score in names
    }
    if known := [row for some in rows.values() for row in some]:
        meanings = {
            score: scores[score]["meaning"] for scores in methods.values() for score in scores if rows[score]
        }
        told = "".join(f" {_words(score)}: {meaning}." for score, meaning in meanings.items())
        report.table(["score", "method", "field", "value"], known, caption + told)
    if lost := [_words(score) for score in names if not rows[score]]:
        report.text(f"These forecasts are too short, or too few, for {', '.join(lost)}.")


def _add_ranks(report: Report, methods: Mapping[str, Mapping[str, Any]]) -> None:
    """Add how often the truth had each rank among the members of an ensemble."""
    known = {name: values["rank_histogram"] for name, values in methods.items() if "rank_histogram" in values}
    panels = []
    for field in dict.fromkeys(field for fields in known.values() for field in fields):
        shares = {name: np.array(fields[field]) for name, fields in known.items() if field in fields}
        curves = [Curve(name, np.arange(1.0, len(one) + 1), one) for name, one in shares.items()]
        panels.append(Panel(field, curves, "rank of the truth", "share", least_span=1e-3))
    if panels:
        report.panels(
            panels,
            "How often the truth had each rank among the members: even where they are spread as they err; high at both"
            " ends where they are spread too little.",
        )


def _estimates(score: Mapping[str, Any]) -> Iterator[tuple[str, Estimate]]:
    """The one number of a score; where it has none, that of each field."""
    if score.get("value") is not None:
        yield "all", estimate(score)
        return
    for group, values in score.get("groups", {}).items():
        yield group, estimate(values)


def estimate(values: Mapping[str, Any], undefined: float = float("nan")) -> Estimate:
    """An estimate from scores.json, where what is no number of JSON is null.

    Args:
        values: of the estimate.
        undefined: what null stands for in the value, and in the upper end where there is a lower one.
    """
    value, low, high = (values.get(name) for name in ("value", "low", "high"))
    # Without a lower end there were too few forecasts for an interval.
    end = float("nan") if low is None else undefined if high is None else high
    shown = undefined if value is None else value
    return Estimate(
        shown, float("nan") if low is None else low, end, values.get("n", 0), values.get("failed", 0)
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
