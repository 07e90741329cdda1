"""Sweep results: of each method the best way to train it, its learning curve, and what the pretrained model gains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pelagos.evaluation.efficiency import Gains, LearningCurve, PowerLaw, with_interval
from pelagos.evaluation.inference.estimate import Estimate
from pelagos.pipeline.stages.sweep_plan import Candidate, SweepRun

ScoreName = Literal["last", "one_step", "rollout"]
BEST = "best baseline"
"""The name of what has, at each number of trajectories, the lowest error of all baselines."""


@dataclass(frozen=True)
class SweepFacts:
    """What the results of a sweep are of.

    Attributes:
        score: the name of the score.
        splits: on which it is computed, by task.
        select: the split on which rates and lengths are chosen; None where there is no choice.
        accuracy_at: the number of trajectories of the accuracy gain.
        efficiency_at: that of the efficiency gain.
        pretrained: the method whose gains are told.
        concerns: what makes the scores say less than they seem to.
    """

    score: str
    splits: Mapping[str, str]
    select: str | None
    accuracy_at: int
    efficiency_at: int
    pretrained: str
    concerns: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """A method at one number of trajectories.

    Attributes:
        candidate: the way of training that was chosen.
        errors: by seed.
        edge: which of its values are the lowest or highest that were tried, of several.
    """

    candidate: Candidate
    errors: tuple[float, ...]
    edge: tuple[str, ...]

    @property
    def median(self) -> float:
        """Of the seeds."""
        return float(np.median(self.errors))


@dataclass(frozen=True, eq=False)
class MethodResult:
    """A method on one task.

    Attributes:
        points: by number of trajectories.
        law: the power law of its curve; None where it has no two finite errors.
        exponent: of that law, with its interval over seeds.
    """

    points: Mapping[int, Point]
    law: PowerLaw | None
    exponent: Estimate | None

    @property
    def curve(self) -> LearningCurve:
        """The errors of all seeds."""
        errors = np.array([point.errors for point in self.points.values()]).T
        return LearningCurve(tuple(self.points), errors)

    @classmethod
    def of(cls, points: Mapping[int, Point]) -> "MethodResult":
        """The result with the law of its points."""
        bare = cls(points, None, None)
        if np.isfinite(bare.curve.medians).sum() < 2:
            return bare
        law = PowerLaw.of(bare.curve)
        # Seeds that fail leave fewer than two numbers in some drawings: these say nothing of the slope.
        sound = np.isfinite(bare.curve.errors).all()
        known = with_interval(lambda one: PowerLaw.of(one).exponent, [bare.curve]) if sound else None
        return cls(points, law, known)


@dataclass(frozen=True, eq=False)
class TaskResult:
    """All methods on one task.

    Attributes:
        methods: by name, the pretrained model first.
        gains: of the pretrained model over each baseline, and over the best of them where there are several.
        persistence: the error of repeating the initial frame; None of a steady problem.
    """

    methods: Mapping[str, MethodResult]
    gains: Mapping[str, Gains]
    persistence: float | None


@dataclass(frozen=True, eq=False)
class SweepResults:
    """All tasks of a sweep.

    Attributes:
        facts: what the results are of.
        tasks: by name.
        runs: every run with all of its scores, for the record.
        failed: what each failed run said.
    """

    facts: SweepFacts
    tasks: Mapping[str, TaskResult]
    runs: Sequence[Mapping[str, Any]]
    failed: Mapping[str, str]

    def summary(self) -> dict[str, dict[str, float]]:
        """The median efficiency gain and the mean accuracy gain over all tasks, as Poseidon's, for each baseline."""
        names = dict.fromkeys(name for task in self.tasks.values() for name in task.gains)
        found = {}
        for name in names:
            gains = [task.gains[name] for task in self.tasks.values()]
            found[name] = {
                "median_efficiency_gain": float(np.median([one.efficiency.value for one in gains])),
                "mean_accuracy_gain": float(np.mean([one.accuracy.value for one in gains])),
            }
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinite errors are of runs that failed."""
        return {
            "score": self.facts.score,
            "summary": self.summary(),
            "tasks": {name: _task_json(self.facts, name, task) for name, task in self.tasks.items()},
            "runs": list(self.runs),
        }


def gather(
    kept: Sequence[tuple[SweepRun, Mapping[str, Any]]],
    facts: SweepFacts,
    persistence: Mapping[str, Mapping[str, float]],
) -> SweepResults:
    """The results of all runs.

    Args:
        kept: each run with what it left.
        facts: what the results are of.
        persistence: the scores of persistence, by task.
    """
    tasks = {}
    for task in facts.splits:
        own = [(run, record) for run, record in kept if run.task == task]
        names = dict.fromkeys(run.method for run, _ in own)
        methods = {name: _method([one for one in own if one[0].method == name], facts) for name in names}
        tasks[task] = TaskResult(methods, _gains(methods, facts), persistence[task].get(facts.score))
    failed = {_label(run): str(record["failed"]) for run, record in kept if "failed" in record}
    return SweepResults(facts, tasks, [_run_json(run, record) for run, record in kept], failed)


def _method(kept: Sequence[tuple[SweepRun, Mapping[str, Any]]], facts: SweepFacts) -> MethodResult:
    """A method by the candidate that is best at each number of trajectories."""
    points = {}
    for number in dict.fromkeys(run.trajectories for run, _ in kept):
        records: dict[Candidate, list[tuple[SweepRun, Mapping[str, Any]]]] = {}
        for run, record in kept:
            if run.trajectories == number:
                records.setdefault(run.candidate, []).append((run, record))
        split = facts.select or facts.splits[kept[0][0].task]
        # Of equals the first, and so the one with the lower rate and fewer steps where these come first.
        best = min(records, key=lambda one: np.median([_error(r, split, facts) for _, r in records[one]]))
        errors = tuple(
            _error(record, facts.splits[run.task], facts)
            for run, record in sorted(records[best], key=lambda one: one[0].seed)
        )
        points[number] = Point(best, errors, _edges(best, list(records)))
    return MethodResult.of(points)


def _error(record: Mapping[str, Any], split: str, facts: SweepFacts) -> float:
    """Infinite of a run that failed, and of one whose forecasts are not numbers."""
    if "failed" in record:
        return math.inf
    value = record["scores"][split][facts.score]
    return math.inf if value is None else float(value)


def _edges(best: Candidate, tried: Sequence[Candidate]) -> tuple[str, ...]:
    found = []
    for name in ("lr", "steps"):
        values = sorted({getattr(one, name) for one in tried})
        if len(values) > 1 and getattr(best, name) in (values[0], values[-1]):
            found.append(name)
    return tuple(found)


def _gains(methods: Mapping[str, MethodResult], facts: SweepFacts) -> dict[str, Gains]:
    baselines = {name: one for name, one in methods.items() if name != facts.pretrained}
    curves = {name: one.curve for name, one in baselines.items()}
    if len(baselines) > 1:
        curves[BEST] = _envelope([one.points for one in baselines.values()])
    model = methods[facts.pretrained].curve
    return {
        name: Gains.of(model, curve, facts.accuracy_at, facts.efficiency_at) for name, curve in curves.items()
    }


def _envelope(baselines: Sequence[Mapping[int, Point]]) -> LearningCurve:
    """At each number of trajectories the baseline with the lowest median."""
    best = [min((one[number] for one in baselines), key=lambda p: p.median) for number in baselines[0]]
    return LearningCurve(tuple(baselines[0]), np.array([point.errors for point in best]).T)


def _label(run: SweepRun) -> str:
    return f"{run.task}/{run.method}/{run.config.output.name}"


def _run_json(run: SweepRun, record: Mapping[str, Any]) -> dict[str, Any]:
    facts = {
        "task": run.task,
        "method": run.method,
        "trajectories": run.trajectories,
        "seed": run.seed,
        "lr": run.candidate.lr,
        "steps": run.candidate.steps,
    }
    return facts | {key: record[key] for key in ("scores", "failed", "seconds") if key in record}


def _task_json(facts: SweepFacts, name: str, task: TaskResult) -> dict[str, Any]:
    methods = {}
    for method, result in task.methods.items():
        law, exponent = result.law, result.exponent
        methods[method] = {
            "errors": [
                {
                    "trajectories": number,
                    "median": point.median,
                    "seeds": list(point.errors),
                    "lr": point.candidate.lr,
                    "steps": point.candidate.steps,
                    "at_edge": list(point.edge),
                    "below_persistence": None
                    if task.persistence is None
                    else point.median < task.persistence,
                }
                for number, point in result.points.items()
            ],
            "power_law": None
            if law is None
            else {
                "factor": law.factor,
                "exponent": law.exponent,
                "deviation": law.deviation,
                "exponent_interval": None if exponent is None else [exponent.low, exponent.high],
            },
        }
    return {
        "split": facts.splits[name],
        "selected_on": facts.select,
        "persistence": task.persistence,
        "methods": methods,
        "gains": {baseline: gains.to_json() for baseline, gains in task.gains.items()},
    }
