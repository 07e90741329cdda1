"""Sweep: what a pretrained model is worth, by its errors after few and more trajectories beside those of baselines."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.forecast_plan import StartsConfig, is_steady
from pelagos.evaluation.score_summary import json_values, summarise
from pelagos.evaluation.streaming.score_archive import labelled, sums_of
from pelagos.evaluation.verification import make_evaluator
from pelagos.pipeline.cluster.launch import ProcessError, run_processes
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs.configuration import dump
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import load
from pelagos.pipeline.runs.progress import console
from pelagos.pipeline.runs.remarks import once, say
from pelagos.pipeline.runs.work_share import Part, share_of, working_share
from pelagos.pipeline.stages import finetune
from pelagos.pipeline.stages.scored_forecasts import ModelFrames
from pelagos.pipeline.stages.sweep_plan import (
    MethodConfig,
    SweepRun,
    TaskConfig,
    plan_runs,
    refuse_own_settings,
)
from pelagos.pipeline.stages.sweep_report import print_gains, sweep_report
from pelagos.pipeline.stages.sweep_results import ScoreName, SweepFacts, gather
from pelagos.pipeline.training.loss_guard import BadStepError
from pelagos.preprocessing.config import Changeable, Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.durable import (
    LockedError,
    json_checksum,
    sole_writer,
    write_bytes,
    write_json,
)
from pelagos.preprocessing.files.location import Folder
from pelagos.preprocessing.samples.sample_index import first_trajectories
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable, with_role

PRETRAINED = "pretrained"
PERSISTENCE: BaselineName = "persistence"


class SweepStage(Config):
    """What is trained on how many trajectories, and how it is scored.

    Attributes:
        output: folder of the runs, `efficiency.json` and `report.html`.
        finetune: a configuration of `pelagos finetune` that all runs start from, without `output`, `name`, `seed` and
            `data.num_trajectories`, of which each has its own.
        tasks: data by name, each with what is other there than in `finetune`; by default its own data alone.
        pretrained: the rates and lengths that the pretrained model is fine-tuned with.
        baselines: what it is held against, by name, such as `{changes: {scratch: true, network: {kind: fno}}}`.
        trajectories: how many of the first trajectories of the training split each method learns from.
        seeds: of the training; each number of trajectories is trained with all of them.
        starts: which forecasts are scored.
        mode: as of `evaluate`.
        score: what of the median relative L1 error counts: at the `last` lead time as in Poseidon, of `one_step`, or
            the mean of the `rollout`.
        normalised: whether errors are of normalised fields, as Poseidon's are.
        select: the split on which the best of several rates and lengths is found; `test` favours what has more of them.
        accuracy_at: the number of trajectories of the accuracy gain; by default that nearest to an eighth of the most.
        efficiency_at: that of the efficiency gain; by default the most.
        batch: forecasts computed together.
        threads: of the CPU, for forecasts.
        processes: that train each run together, on this machine.
        part: `i/n` trains and scores only this share of the runs, for arrays of jobs; the last one to end concludes.
    """

    command: Literal["sweep"] = "sweep"
    output: Folder
    finetune: dict[str, Any]
    tasks: dict[str, TaskConfig] = Field(default_factory=dict)
    pretrained: MethodConfig = MethodConfig()
    baselines: dict[str, MethodConfig] = Field(min_length=1)
    trajectories: tuple[PositiveInt, ...] = Field(min_length=1)
    seeds: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2), min_length=1)
    starts: StartsConfig = StartsConfig()
    mode: Mode = "rollout"
    score: ScoreName = "last"
    normalised: bool = False
    select: Literal["valid", "test"] = "valid"
    accuracy_at: PositiveInt | None = None
    efficiency_at: PositiveInt | None = None
    batch: int = Field(default=16, gt=0)
    threads: Changeable[int] = Field(default=2, gt=0)
    processes: Changeable[int] = Field(default=1, gt=0)
    part: Part = "1/1"

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for key, values in (("trajectories", self.trajectories), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: {list(values)} names one twice")
        if list(self.trajectories) != sorted(self.trajectories):
            raise ValueError(f"trajectories: {list(self.trajectories)} must be ascending")
        if taken := {PRETRAINED, PERSISTENCE} & set(self.baselines):
            raise ValueError(f"baselines: {taken.pop()} is the name of another method; give it another")
        for key in ("accuracy_at", "efficiency_at"):
            at = getattr(self, key)
            if at is not None and not self.trajectories[0] <= at <= self.trajectories[-1]:
                raise ValueError(f"{key}: {at} is not between the least and the most of `trajectories`")
        share_of(self.part)
        return self

    @model_validator(mode="after")
    def _nothing_overridden(self) -> Self:
        refuse_own_settings(self.finetune, "finetune")
        refuse_own_settings(self.pretrained.changes, "pretrained.changes")
        for key, named in (("tasks", self.tasks), ("baselines", self.baselines)):
            for name, one in named.items():
                refuse_own_settings(one.changes, f"{key}.{name}.changes")
        return self

    @property
    def share(self) -> tuple[int, int]:
        """The share of the runs as a position, counted from 0, and the number of shares."""
        return share_of(self.part)

    @property
    def data_by_task(self) -> dict[str, TaskConfig]:
        """The tasks, of which there is always one."""
        return self.tasks or {"task": TaskConfig()}

    @property
    def methods(self) -> dict[str, MethodConfig]:
        """All methods by name, the pretrained model first."""
        return {PRETRAINED: self.pretrained, **self.baselines}

    def runs(self) -> list[SweepRun]:
        """All runs, with their configurations.

        Raises:
            ConfigError: one of them has errors.
        """
        planned = plan_runs(
            self.finetune,
            self.data_by_task,
            self.methods,
            self.trajectories,
            self.seeds,
            self.starts,
            Path(self.output),
        )
        return list(planned)

    @property
    def tunes(self) -> bool:
        """Whether a method has several rates or lengths to choose from."""
        return any(len(one.lr) > 1 or len(one.steps) > 1 for one in self.methods.values())


@dataclass(frozen=True)
class SweepWork:
    """A sweep that is under way.

    Attributes:
        config: the configuration.
        runs: all of its runs.
        inputs: the checksums of what the runs of each task start from.
    """

    config: SweepStage
    runs: Sequence[SweepRun]
    inputs: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, config: SweepStage) -> Self:
        """Plan the sweep, and refuse what would fail only after hours of training.

        Raises:
            ConfigError: the configuration of a run has errors, or a store has too few trajectories.
            PelagosError: a store or the model cannot be opened.
        """
        runs = config.runs()
        firsts = _first_of_each_task(runs)
        for one in firsts.values():
            _check_store(config, one)
        inputs = {
            task: {found.name: found.checksum for found in one.config.inputs()}
            for task, one in firsts.items()
        }
        return cls(config, runs, inputs)

    def digest(self, one: SweepRun) -> str:
        """What decides the scores of a run."""
        return json_checksum(
            {
                "training": one.config.model_dump(mode="json", exclude={"tracking", "threads"}),
                "starts": one.starts.model_dump(mode="json"),
                "splits": splits_of(self.config, one),
                "mode": self.config.mode,
                "inputs": dict(self.inputs[one.task]),
            }
        )

    def result(self, one: SweepRun) -> dict[str, Any] | None:
        """What a run left; None before it has ended."""
        return one.read_result(self.digest(one))

    def concerns(self) -> Iterator[str]:
        """What makes the scores say less than they seem to."""
        for task, one in _first_of_each_task(self.runs).items():
            for split in splits_of(self.config, one):
                if _scores_what_it_learns(self.config, one, split):
                    what = "starts.at" if one.starts.at else f"split {split}"
                    yield (
                        f"{task}: forecasts of {what} are scored on frames that models learn from, and tell nothing of"
                        " unseen ones"
                    )


def run(config: SweepStage) -> Path | None:
    """Train and score what is not yet, and conclude; returns the report, None for a share that was not the last to end.

    Raises:
        ConfigError: the configuration of a run has errors, or its folder holds another run.
        DataError: a store has too few trajectories, or no forecast fits into it.
        StoppedError: a signal asked for it; the same command continues.
    """
    position, count = config.share
    work = SweepWork.of(config)
    own = work.runs[position::count]
    # What all runs of a task have in common is said once.
    with once(), working_share(config.output, config.share):
        for line in work.concerns():
            say(f"WARNING: {line}")
        for number, one in enumerate(own, start=1):
            if work.result(one) is None:
                _run_one(work, one, f"{number}/{len(own)}")
        if count == 1:
            return _conclude(work)
    return _conclude_if_last(work)


def _first_of_each_task(runs: Sequence[SweepRun]) -> dict[str, SweepRun]:
    return {one.task: one for one in reversed(runs)}


def _check_store(config: SweepStage, one: SweepRun) -> None:
    store, split = open_store(one.data.path), one.data.split
    there, most = int(store.splits[split].any(axis=1).sum()), config.trajectories[-1]
    if there < most:
        raise ConfigError(f"trajectories: {most} are more than the {there} of split {split} of {store.path}")
    for scored in splits_of(config, one):
        one.starts.model_copy(update={"split": scored}).plan(store)


def _scores_what_it_learns(config: SweepStage, one: SweepRun, split: str) -> bool:
    """Whether forecasts of a split have frames that the runs with the most trajectories learn from."""
    store = open_store(one.data.path)
    learnt_NT = first_trajectories(store.splits[one.data.split], config.trajectories[-1])
    plan = one.starts.model_copy(update={"split": split}).plan(store)
    reach = 0 if is_steady(store) else plan.stride * plan.steps
    own_NT = learnt_NT[list(plan.trajectories)]
    return any(bool(own_NT[:, start : start + reach + 1].any()) for start in plan.starts)


def splits_of(config: SweepStage, one: SweepRun) -> list[str]:
    """The splits that a model is scored on."""
    choice = [config.select] if config.tunes else []
    return list(dict.fromkeys([one.starts.split, *choice]))


def _run_one(work: SweepWork, one: SweepRun, label: str) -> None:
    """Train a run, or continue it, and score its model."""
    name = f"{label}  {one.task}/{one.method}/{one.config.output.name}"
    console().print(f"[bold]{name}[/bold]")
    begin = time.monotonic()
    record: dict[str, Any]
    try:
        _train(work.config, one)
        record = {"scores": _scored(work.config, one)}
    except (BadStepError, ProcessError) as error:
        if isinstance(error, ProcessError) and BadStepError.exit_code not in error.codes:
            raise
        # A rate that is too high is a result: it must not end the other runs.
        say(f"WARNING: {name} failed and counts as the worst: {error}")
        record = {"failed": str(error)}
    seconds = time.monotonic() - begin
    write_json(one.result, json_values({"digest": work.digest(one), "seconds": seconds, **record}))


def _train(config: SweepStage, one: SweepRun) -> None:
    if config.processes == 1:
        finetune.run(one.config)
        return
    file = one.config.output.with_name(f"{one.config.output.name}.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, dump(one.config).encode())
    run_processes(["finetune", str(file)], config.processes)


def _scored(config: SweepStage, one: SweepRun) -> dict[str, Any]:
    """The scores of a run's model by split."""
    store, folder = open_store(one.data.path), one.config.output / "model"
    model = load(folder)
    found: dict[str, Any] = {"model": model_checksum(folder)}
    for split in splits_of(config, one):
        starts = one.starts.model_copy(update={"split": split})
        plan = starts.plan(store)
        forecaster = Forecaster(
            model, store, config.mode, config.batch, config.threads, f"model {one.method}"
        )
        forecaster.check(plan)
        sources = {one.method: ModelFrames(forecaster, plan)}
        evaluator = make_evaluator(store, plan, forecaster.domain.outputs, sources, size=config.batch)
        state = evaluator.score_all(config.batch)[one.method]
        found[split] = headline(summarise(sums_of(labelled(state, store.time_units))))
    return found


def headline(summary: Mapping[str, Any]) -> dict[str, float]:
    """The scores that a sweep may be of, from those of a method."""
    found: dict[str, float] = {}
    for prefix, values in (("", summary), ("normalised_", summary.get("normalised", {}))):
        if values:
            found |= {f"{prefix}{key}": values[key] for key in ("one_step", "rollout")}
            found[f"{prefix}last"] = values["by_lead_time"][-1]
    return found


def _persistence(config: SweepStage, one: SweepRun) -> dict[str, float]:
    """The scores of persistence on a task; none of a steady one."""
    store = open_store(one.data.path)
    if is_steady(store):
        return {}
    plan = one.starts.plan(store)
    evaluator = make_evaluator(store, plan, _outputs(store), {}, [PERSISTENCE], size=config.batch)
    state = evaluator.score_all(config.batch)[PERSISTENCE]
    return headline(summarise(sums_of(labelled(state, store.time_units))))


def _outputs(store: Store) -> list[Variable]:
    return list(with_role(store.variables, "prognostic", "diagnostic"))


def _conclude_if_last(work: SweepWork) -> Path | None:
    """Conclude unless other shares of the sweep are at work or still to come."""
    try:
        with sole_writer(work.config.output):
            left = sum(work.result(one) is None for one in work.runs)
            if not left:
                return _conclude(work)
            say(f"note: {left} runs are left to other parts of the sweep")
    except LockedError:
        say("note: other parts of the sweep are at work; the last one concludes")
    return None


def _conclude(work: SweepWork) -> Path:
    """Write the figures of all runs, and the report."""
    config, firsts = work.config, _first_of_each_task(work.runs)
    persistence = {task: _persistence(config, firsts[task]) for task in config.data_by_task}
    kept = [(one, work.result(one) or {}) for one in work.runs]
    results = gather(kept, _facts(work), persistence)
    values = {"configuration": config.model_dump(mode="json"), **results.to_json()}
    write_json(config.output / "efficiency.json", json_values(values))
    report = sweep_report(results, dump(config)).write(config.output / "report.html")
    print_gains(results)
    return report


def _facts(work: SweepWork) -> SweepFacts:
    config = work.config
    most = config.trajectories[-1]
    eighth = min(config.trajectories, key=lambda number: abs(number * 8 - most))
    return SweepFacts(
        score=("normalised_" if config.normalised else "") + config.score,
        splits={name: (task.starts or config.starts).split for name, task in config.data_by_task.items()},
        select=config.select if config.tunes else None,
        accuracy_at=config.accuracy_at or eighth,
        efficiency_at=config.efficiency_at or most,
        pretrained=PRETRAINED,
        concerns=tuple(work.concerns()),
    )
