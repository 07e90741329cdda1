"""The report of an evaluation: what was scored, scores with intervals, physics, single forecasts, training, sources."""

import base64
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pelagos.evaluation.forecast_schema import grid_of
from pelagos.evaluation.inference.estimate import LEVEL, Estimate
from pelagos.evaluation.report.cases import ranked_cases
from pelagos.evaluation.report.chart import Curve, Panel
from pelagos.evaluation.report.chosen_section import add_chosen
from pelagos.evaluation.report.curves import alike, quantity, readable_times
from pelagos.evaluation.report.markup import unit_name
from pelagos.evaluation.report.paired_section import add_tests, run_tests
from pelagos.evaluation.report.physics_section import add_physics
from pelagos.evaluation.report.report import Report
from pelagos.evaluation.report.report_facts import NO_FACTS, Case, ReportFacts
from pelagos.evaluation.report.score_numbers import ScoreNumbers, numbers_of
from pelagos.evaluation.score_summary import describe_failures, describe_left_out
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.verification import Evaluation

_EMBEDDED = 1_000_000
"""Bytes of numbers up to which they are embedded in the page."""


def evaluation_report(
    title: str, evaluation: Evaluation, facts: ReportFacts = NO_FACTS, numbers: ScoreNumbers | None = None
) -> Report:
    """The report of one evaluation, whose numbers may have been made already."""
    about = evaluation.scores
    subtitle = (
        f"{about['dataset']}: {about['trajectories']} trajectories of split {about['split']},"
        f" {about['starts']} start(s) each, {len(about['lead_times'])} lead time(s)"
    )
    report = Report(title, subtitle, footer="Made by Pelagos.")
    numbers = numbers or numbers_of(evaluation, facts.reach)
    add_scores(report, evaluation, numbers)
    if tests := run_tests(numbers):
        add_tests(report, tests)
    add_chosen(report, about)
    add_physics(report, evaluation, numbers)
    add_pictures(report, evaluation, numbers, facts)
    add_error_maps(report, evaluation)
    add_training(report, facts.training)
    add_sources(report, evaluation, facts)
    add_numbers(report, numbers, facts.files)
    return report


def add_scores(report: Report, evaluation: Evaluation, numbers: ScoreNumbers | None = None) -> None:
    """Add what was scored, tables of errors with their intervals, and the errors' curves over lead time."""
    about, numbers = evaluation.scores, numbers or numbers_of(evaluation)
    report.section("Scores", *_explanations(about, numbers))
    _add_models(report, about, numbers)
    _add_headline(report, about["methods"], numbers)
    rmse = {name: numbers.curve(name, "rmse") for name in evaluation.methods}
    report.table(
        ["method", "field", "RMSE at the first lead time", "at the last", "units", "failed"],
        [
            [name, group, line[0], line[-1], unit_name(numbers.evaluation.units(group)), line[-1].failed]
            for name, groups in rmse.items()
            for group, line in groups.items()
        ],
        "Root mean square error over all forecasts and valid points; the root is taken last. A forecast"
        " that is not a number somewhere at the last lead time has failed.",
    )
    if len(about["lead_times"]) > 1:
        _add_error_curves(report, about, numbers)


def _add_error_curves(report: Report, about: Mapping[str, Any], numbers: ScoreNumbers) -> None:
    times, unit = readable_times(numbers.evaluation.truth["count"])
    horizons = {name: facts["horizon"] for name, facts in about["models"].items() if facts.get("horizon")}
    factor = times[-1] / about["lead_times"][-1]
    beyond = {name: time * factor for name, time in horizons.items() if time < about["lead_times"][-1]}
    panels: dict[str, list[Curve]] = {}
    for name in numbers.evaluation.methods:
        for group, line in numbers.curve(name, "relative_l1").items():
            panels.setdefault(group, []).append(_curve(name, times, line))
    label = "lead time" + (f" [{unit}]" if unit else "")
    charts = []
    drawn = {
        group: curves for group, curves in panels.items() if any(np.isfinite(one.y).any() for one in curves)
    }
    for group, curves in drawn.items():
        marks = {curve.name: beyond[curve.name] for curve in curves if curve.name in beyond}
        charts.append(Panel(group, curves, label, "relative L1", marks=marks))
    end = " Upright lines mark the longest lead time that a model was trained on." if beyond else ""
    caption = (
        f"Relative L1 error over lead time: the median over forecasts, and its {100 * LEVEL:.0f} % interval."
    )
    if charts:
        report.panels(alike(charts), caption + end + _undrawn(panels, drawn))


def _undrawn(panels: Iterable[str], drawn: Collection[str]) -> str:
    """What to say of fields of which nothing can be drawn."""
    lost = [group for group in panels if group not in drawn]
    return (
        f" Not drawn is {', '.join(lost)}, whose error is infinite or undefined throughout." if lost else ""
    )


def _curve(name: str, times: Any, line: Sequence[Estimate]) -> Curve:
    value, low, high = (np.array([getattr(one, part) for one in line]) for part in ("value", "low", "high"))
    known = not np.isnan(low).any()
    return Curve(name, times, value, low if known else None, high if known else None)


def _explanations(about: Mapping[str, Any], numbers: ScoreNumbers) -> Iterator[str]:
    yield (
        "The relative L1 error of a forecast is the sum of its absolute errors over all points, divided by the"
        " sum of the absolute values of the truth. The table gives the median over the forecasts of"
        f" {_origin(about)}, averaged over fields."
    )
    yield _resampling(numbers)
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


def _resampling(numbers: ScoreNumbers) -> str:
    """How the intervals came about."""
    blocks = numbers.scores.blocks
    unit = "trajectories" if blocks.kind == "trajectory" else "stretches of time no shorter than a forecast"
    if blocks.count < 2:
        return "There are no intervals: all forecasts are of one stretch of one trajectory."
    few = " With so few of them an interval is a hint, and likely too narrow." if blocks.few else ""
    return (
        f"Small figures are {100 * LEVEL:.0f} % intervals, from {len(numbers.scores.counts) - 1} drawings of"
        f" {blocks.count} {unit}.{few}"
    )


def _origin(about: Mapping[str, Any]) -> str:
    """Where the scored frames come from."""
    split = f"split `{about['split']}`" if about["split"] else "the chosen frames"
    return f"{split} of {about['dataset']}, version {about['version']}"


def _add_models(report: Report, about: Mapping[str, Any], numbers: ScoreNumbers) -> None:
    if not about["models"]:
        return
    times, unit = readable_times(numbers.evaluation.truth["count"])
    factor = times[-1] / about["lead_times"][-1]
    horizons = {name: facts.get("horizon") for name, facts in about["models"].items()}
    report.table(
        ["method", "model", f"trained up to lead time{f' [{unit}]' if unit else ''}"],
        [
            [name, facts["model"], horizon * factor if (horizon := horizons[name]) else "not recorded"]
            for name, facts in about["models"].items()
        ],
        f"The models. Baselines are fitted to split {about['training_split']}.",
    )


def _add_headline(report: Report, methods: Mapping[str, Mapping[str, Any]], numbers: ScoreNumbers) -> None:
    first, mean = "first lead time", "mean over lead times"
    columns = [first, mean, f"normalised, {first}", f"normalised, {mean}"]
    groups = {name: len(one.groups) for name, one in numbers.scores.statistics.items()}
    total = max(groups.values())
    rows: list[list[Any]] = []
    for name in numbers.evaluation.methods:
        fields = f" ({groups[name]} of {total} fields)" if groups[name] < total else ""
        found = numbers.headline(name)
        shown = (found[key] for key in ("one_step", "rollout", "normalised_one_step", "normalised_rollout"))
        rows.append([name + fields, *shown, describe_failures(methods[name])])
    caption = "Median relative L1 error; the best value of each column is bold."
    report.table(["method", *columns, "failed forecasts"], rows, caption, lowest=columns)


def add_pictures(
    report: Report,
    evaluation: Evaluation,
    numbers: ScoreNumbers | None = None,
    facts: ReportFacts = NO_FACTS,
) -> None:
    """Add single forecasts: the worst, the median and the best, where they can be read, else the pictured one."""
    about, grid = evaluation.scores, grid_of(evaluation.truth)
    report.section("Pictures", *facts.missing)
    if facts.case is not None and numbers is not None and about["models"]:
        _add_cases(report, numbers, facts)
        return
    for name in evaluation.truth["variable"].values[:3]:
        shown = evaluation.pictures(name)
        truth = shown.pop(TRUTH)
        caption = f"Truth, forecast and error of {name} in {_kind(about['split'])} {about['pictured']}."
        report.fields(truth, _worth_showing(shown), caption, grid=grid)


def _add_cases(report: Report, numbers: ScoreNumbers, facts: ReportFacts) -> None:
    assert facts.case is not None, "cases can be read"
    evaluation = numbers.evaluation
    first, kind = next(iter(evaluation.scores["models"])), _kind(evaluation.scores["split"])
    cases = [(name, facts.case(sample), error) for name, sample, error in ranked_cases(numbers, first)]
    variables = evaluation.truth["variable"].values.tolist()
    for name, case, error in cases:
        for variable in variables[: 3 if name in ("median", "only") else 1]:
            which = f"The {name} forecast of {first}: {variable} of {kind} {case.label}"
            caption = f"{which}, relative L1 error {error:.3g}."
            _add_case(report, evaluation, case, variable, caption)
    for name, case, _ in cases:
        if name in ("median", "only", "worse") and evaluation.truth.sizes["lead_time"] > 2:
            truth, forecasts = _one_variable(case, variables[0])
            caption = f"{variables[0]} of the {name} forecast, moving; {kind} {case.label}."
            report.film(truth, forecasts, caption, grid_of(evaluation.truth), case.dates)


def _add_case(report: Report, evaluation: Evaluation, case: Case, variable: str, caption: str) -> None:
    truth, forecasts = _one_variable(case, variable)
    if forecasts:
        report.fields(truth, forecasts, caption, grid=grid_of(evaluation.truth), dates=case.dates)


def _one_variable(case: Case, variable: str) -> tuple[xr.DataArray, dict[str, xr.DataArray]]:
    fields = {name: data[variable] for name, data in case.fields.items() if variable in data}
    return fields.pop(TRUTH), _worth_showing(fields)


def _worth_showing(fields: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """All but persistence beside several forecasts: a copy of the initial frame only takes space there."""
    return {name: one for name, one in fields.items() if name != "persistence" or len(fields) < 3}


def add_error_maps(report: Report, evaluation: Evaluation) -> None:
    """Add where the errors are: root mean squares over forecasts at each point, of the first model."""
    methods = [name for name in evaluation.methods if name in evaluation.scores["models"]]
    if not methods:
        return
    kept, grid = evaluation.kept[methods[0]], grid_of(evaluation.truth)
    times, unit = readable_times(kept.rename(shown="lead_time", lead_time="all_leads")["maps"])
    report.section("Where the errors are")
    for place, variable in enumerate(kept["variable"].values[:3].tolist()):
        maps = kept["maps"].isel(variable=place)
        weight, square = (
            maps.sel(map=name).transpose("shown", "y", "x").values for name in ("weight", "squared_error")
        )
        rms = np.sqrt(np.where(weight > 0, square / np.where(weight > 0, weight, 1), np.nan))
        shown = dict.fromkeys([0, len(times) - 1])
        report.maps(
            {quantity(times[lead], unit): rms[lead] for lead in shown},
            grid,
            f"RMSE of {variable}",
            str(kept["units"].values[place]),
            f"Root mean square error of {methods[0]} at each point over all forecasts, by lead time.",
        )


def add_training(report: Report, training: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Add curves of training and validation losses, and how long training waited for data."""
    losses: dict[str, Any] = {}
    waits: dict[str, Any] = {}
    for run, records in training.items():
        names = {
            key for record in records for key in record if key.endswith("loss") or key.startswith("valid")
        }
        for key in sorted(names, key=lambda name: (not name.startswith("train"), name)):
            losses[f"{run}: {key}"] = _series(records, key)
        if (wait := _series(records, "loader_wait")) or (wait := _series(records, "system/loader_wait")):
            waits[run] = wait
    losses = {name: series for name, series in losses.items() if series}
    if not losses:
        return
    report.section("Training")
    report.training_curves(
        losses,
        "Training and validation losses; part of the noise of the former is the changing mix of data.",
        y_label="loss",
    )
    if waits:
        report.training_curves(
            waits, "Share of the time that training waited for data.", y_label="loader wait"
        )


def _series(records: Sequence[Mapping[str, float]], key: str) -> tuple[list[float], list[float]] | None:
    found = [(record["step"], record[key]) for record in records if key in record]
    return ([step for step, _ in found], [value for _, value in found]) if found else None


def add_sources(report: Report, evaluation: Evaluation, facts: ReportFacts) -> None:
    """Add where data, models and code come from, and the configuration."""
    if facts is NO_FACTS:
        return
    about = evaluation.scores
    report.section("What was scored")
    own = {
        "dataset": f"{about['dataset']}, version {about['version']}",
        "split": about["split"],
        "forecasts": f"{about['trajectories']} trajectories, {about['starts']} start(s) each",
    }
    report.facts("Data", own | dict(facts.data))
    for name, known in facts.models.items():
        report.facts(f"Model {name}", known)
    report.facts("Code", facts.code)
    if facts.configuration:
        report.details("Configuration", facts.configuration)


def add_numbers(report: Report, numbers: ScoreNumbers, files: Sequence[str] = ()) -> None:
    """Add links to all numbers: to files beside the report, and in the page where they are not too many."""
    texts = {"csv": ("text/csv", numbers.csv()), "json": ("application/json", numbers.json())}
    links = {}
    for kind, (media, pieces) in texts.items():
        content = _short(pieces)
        if content is not None:
            data = base64.b64encode(content.encode()).decode()
            links[f"{kind.upper()}, in this page"] = f"data:{media};base64,{data}"
    report.section(
        "Numbers",
        "Every score with its interval, by method, region, field and lead time; energies by wavenumber, errors by band"
        " and changes of domain means, too. Maps lie in `scores.zarr`.",
    )
    report.links({**links, **{f"`{name}`, beside this page": name for name in files}}, "numbers")


def _short(pieces: Iterable[str]) -> str | None:
    """The text of all pieces; None as soon as they are too long to embed."""
    found = ""
    for piece in pieces:
        found += piece
        if len(found) > _EMBEDDED:
            return None
    return found


def _kind(split: str) -> str:
    kinds = {"test": "held-out trajectory", "valid": "validation trajectory", "train": "training trajectory"}
    return kinds.get(split, "trajectory")
