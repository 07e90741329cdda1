"""Sweep report: learning curves, gains and power laws as a page and as lines in the terminal."""

from collections.abc import Iterator

import numpy as np

from pelagos.evaluation.efficiency import Gains
from pelagos.evaluation.report.chart import Curve, Panel
from pelagos.evaluation.report.markup import Cell
from pelagos.evaluation.report.report import Report
from pelagos.pipeline.stages.sweep_results import BEST, Point, SweepResults, TaskResult

_WORDS = {"last": "at the last lead time", "one_step": "of one step", "rollout": "averaged over the rollout"}


def sweep_report(results: SweepResults, configuration: str) -> Report:
    """The report of a sweep.

    Args:
        results: of all runs.
        configuration: the resolved one, as YAML.
    """
    report = Report(
        "What pretraining is worth",
        f"Median relative L1 error {score_text(results)} after few and more trajectories",
        footer="Every number comes from models that this sweep trained and scored.",
    )
    _add_summary(report, results)
    _add_curves(report, results)
    _add_errors(report, results)
    _add_laws(report, results)
    if results.failed:
        report.section("Failed runs", "They count as the worst of all.")
        report.table(["run", "message"], [list(one) for one in results.failed.items()], "What stopped them.")
    report.details("Configuration", configuration)
    return report


def score_text(results: SweepResults) -> str:
    """What the errors are of, in words."""
    name = results.facts.score
    plain = name.removeprefix("normalised_")
    return _WORDS[plain] + (", of normalised fields" if plain != name else "")


def print_gains(results: SweepResults) -> None:
    """Print what the pretrained model gains, and what has to be known of it."""
    facts = results.facts
    print(f"\nmedian relative L1 {score_text(results)}")
    for name, task in results.tasks.items():
        numbers = list(next(iter(task.methods.values())).points)
        print(f"{name:<24}" + "".join(f"{f'M={number}':>10}" for number in numbers))
        for method, result in task.methods.items():
            print(f"  {method:<22}" + "".join(f"{p.median:10.4f}" for p in result.points.values()))
        if task.persistence is not None:
            print(f"  {'persistence':<22}" + f"{task.persistence:10.4f}" * len(numbers))
    print(f"gains: EG at {facts.efficiency_at}, AG at {facts.accuracy_at} trajectories")
    for name, task in results.tasks.items():
        for baseline, gains in task.gains.items():
            print(f"  {name} over {baseline}: EG {efficiency_text(gains)}, AG {gains.accuracy.value:.3g}")
    for line in remarks(results):
        print(f"note: {line}")


def efficiency_text(gains: Gains) -> str:
    """The efficiency gain with what is known of it."""
    words = {"reached": "", "at least": "at least ", "never": "never reached, "}
    return f"{words[gains.reach]}{gains.efficiency.value:.3g}"


def remarks(results: SweepResults) -> Iterator[str]:
    """What a reader must know before the gains are believed."""
    yield from results.facts.concerns
    for name, task in results.tasks.items():
        for method, result in task.methods.items():
            if not np.isfinite(result.curve.errors).any():
                yield f"{name}: every run of {method} failed: it has no curve, and gains prove nothing"
            if method != results.facts.pretrained and task.persistence is not None:
                worse = [n for n, point in result.points.items() if point.median >= task.persistence]
                if worse:
                    yield f"{name}: {method} is not below persistence at {_listed(worse)} trajectories"
            for value in ("lr", "steps"):
                edges = [n for n, point in result.points.items() if value in point.edge]
                if edges:
                    yield (
                        f"{name}: the best {value} of {method} is the lowest or highest tried at {_listed(edges)}"
                        " trajectories: others may be better"
                    )
    if results.failed:
        yield f"{len(results.failed)} runs failed, and count as the worst"
    seeds = {
        len(p.errors) for t in results.tasks.values() for m in t.methods.values() for p in m.points.values()
    }
    if min(seeds) < 3:
        yield f"{min(seeds)} seed(s): no interval can be trusted"
    if results.facts.select and results.facts.select in results.facts.splits.values():
        yield "rates and lengths were chosen on the split that is scored, which favours methods with more of them"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _add_summary(report: Report, results: SweepResults) -> None:
    facts, summary = results.facts, results.summary()
    report.section(
        "Result",
        f"EG is {facts.efficiency_at} over the number of trajectories from which the pretrained model reaches the error"
        f" that a baseline has with {facts.efficiency_at}; AG is the baseline's error over the model's at"
        f" {facts.accuracy_at}, as Poseidon defines them (arXiv:2405.19101).",
    )
    headline = BEST if BEST in summary else next(iter(summary))
    found = summary[headline]
    over = f"over {headline}, {len(results.tasks)} task(s)"
    report.cards(
        [
            ("median EG", found["median_efficiency_gain"], over),
            ("mean AG", found["mean_accuracy_gain"], over),
        ]
    )
    rows: list[list[Cell]] = [
        [name, baseline, gains.efficiency, gains.reach, gains.accuracy]
        for name, task in results.tasks.items()
        for baseline, gains in task.gains.items()
    ]
    report.table(
        ["task", "baseline", "EG", "reach", "AG"],
        rows,
        "Gains of the pretrained model with 95 % intervals over seeds, drawn with replacement. `at least`: the fewest"
        " trajectories measured are enough; `never`: no number measured is.",
    )
    report.text(*(f"Note: {line}." for line in remarks(results)))


def _add_curves(report: Report, results: SweepResults) -> None:
    report.section("Learning curves")
    panels = [_panel(name, task) for name, task in results.tasks.items()]
    if drawn := [panel for panel in panels if panel.curves]:
        report.panels(drawn, "Median over seeds, and the range of all seeds.")
    else:
        report.text("Every run failed, so there are none.")


def _panel(name: str, task: TaskResult) -> Panel:
    curves = []
    for method, result in task.methods.items():
        errors = np.where(np.isfinite(result.curve.errors), result.curve.errors, np.nan)
        # A number at which every seed failed has no place in the picture; the table has it.
        shown = ~np.isnan(errors).all(axis=0)
        if not shown.any():
            continue
        x, kept = np.array(list(result.points), float)[shown], errors[:, shown]
        curves.append(Curve(method, x, np.nanmedian(kept, 0), np.nanmin(kept, 0), np.nanmax(kept, 0)))
    if task.persistence is not None and curves:
        ends = np.array([min(curve.x.min() for curve in curves), max(curve.x.max() for curve in curves)])
        curves.append(Curve("persistence", ends, np.full(2, task.persistence)))
    return Panel(name, curves, "trajectories", "relative L1", log_x=True, log_y=True)


def _add_errors(report: Report, results: SweepResults) -> None:
    report.section("Errors")
    chosen = results.facts.select
    said = f"Rates and lengths are the best on split `{chosen}`. " if chosen else ""
    for name, task in results.tasks.items():
        rows = [
            [method, number, *_row(point, task.persistence)]
            for method, result in task.methods.items()
            for number, point in result.points.items()
        ]
        report.table(
            ["method", "trajectories", "error", "lowest", "highest", "lr", "steps", "below persistence"],
            rows,
            f"{said}Median, lowest and highest error of the seeds on {name}, split `{results.facts.splits[name]}`;"
            " `*` marks the lowest or highest value tried.",
        )


def _row(point: Point, persistence: float | None) -> list[Cell]:
    marks = {key: " *" if key in point.edge else "" for key in ("lr", "steps")}
    below = "-" if persistence is None else "yes" if point.median < persistence else "NO"
    return [
        point.median,
        min(point.errors),
        max(point.errors),
        f"{point.candidate.lr:g}{marks['lr']}",
        f"{point.candidate.steps}{marks['steps']}",
        below,
    ]


def _add_laws(report: Report, results: SweepResults) -> None:
    rows: list[list[Cell]] = []
    for name, task in results.tasks.items():
        for method, result in task.methods.items():
            if result.law is not None:
                exponent: Cell = result.law.exponent if result.exponent is None else result.exponent
                rows.append([name, method, result.law.factor, exponent, result.law.deviation])
    if rows:
        report.section("Power laws", "The fit error = C M^-alpha, by least squares in logarithms.")
        report.table(
            ["task", "method", "C", "alpha", "deviation"],
            rows,
            "The deviation is what errors differ from their law by, relative to 1; where it is large no single law"
            " holds.",
        )
