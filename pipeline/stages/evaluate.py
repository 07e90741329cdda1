"""Evaluation: forecasts of several models on one store, scored beside baselines, frame by frame."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pelagos.evaluation.baselines import BaselineName
from pelagos.evaluation.conventions.score_catalogue import ScoreName
from pelagos.evaluation.conventions.score_convention import ConventionName
from pelagos.evaluation.forecast_plan import ForecastPlan, StartBatch, StartsConfig
from pelagos.evaluation.score_summary import describe_failures, describe_left_out, groups_of, json_values
from pelagos.evaluation.score_table import (
    chosen_lines,
    convention_lines,
    horizon_lines,
    interval_lines,
)
from pelagos.evaluation.streaming.batch_archive import BatchArchive
from pelagos.evaluation.streaming.chosen_scores import ChosenScores
from pelagos.evaluation.streaming.evaluator import Evaluator
from pelagos.evaluation.streaming.frame_sources import FrameSource
from pelagos.evaluation.streaming.rain_history import RainConfig
from pelagos.evaluation.streaming.region import RegionChoice, make_regions
from pelagos.evaluation.streaming.regression_frames import RegressionFrames
from pelagos.evaluation.streaming.score_archive import labelled, read_attributes, read_scores, write_scores
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.streaming.sphere_spectra import SpectraName
from pelagos.evaluation.verification import Evaluation, describe_scores, make_evaluator
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.forecasting.coarse_solver import SolverConfig, SolverFrames
from pelagos.pipeline.forecasting.ensemble import EnsembleConfig, OtherStarts
from pelagos.pipeline.forecasting.forecast_data import with_members
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.strategy import Mode
from pelagos.pipeline.runs import run_folder, run_inputs
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import load
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.runs.run_inputs import RunInput, store_checksum
from pelagos.pipeline.runs.thread_count import kept_threads
from pelagos.pipeline.runs.work_share import Part, share_of, working_share
from pelagos.pipeline.stages import draw_report
from pelagos.pipeline.stages.scored_forecasts import ForecastFiles, ModelFrames
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.code_version import code_version
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.pipeline.training.memory import give_back_freed
from pelagos.preprocessing.config import Changeable, Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.durable import LockedError, remove_partials, sole_writer, write_json
from pelagos.preprocessing.files.location import Folder, Location
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable

SCORES = "scores.zarr"
SOLVER = "solver"


class EvaluateStage(Config):
    """What to score against what.

    Attributes:
        models: name in the report -> a folder, or models:/NAME@ALIAS of the registry.
        store: the truth.
        output: folder of the forecasts (`forecasts/NAME.zarr`), `scores.json`, `scores.zarr` and `report.html`.
        starts: which forecasts are made.
        baselines: `persistence` repeats the initial frame; `linear_extrapolation` goes on as in the step before it;
            `climatology` is the mean over the training split by hour of the day; `stencil` is a linear map of each
            point's neighbourhood, fitted to the training split; `seasonal_climatology` is the mean by day of the year
            and time of day over the days around, which needs dates; `regression` is a linear map, for each lead time,
            of all variables in a point's neighbourhood and a frame before, of forcings and of hour and season.
        solver: the equation that the data obey, solved cheaply as the baseline `solver`.
        convention: the benchmark whose scores are computed and printed as well, as its code has them.
        scores: single scores by name beside these.
        ensemble: how the members differ that each model makes from each start; probabilistic scores need them.
        spectra: of fields on latitudes, `zonal` along their circles, or `spherical` by degree of spherical harmonics,
            which needs the whole sphere and the extra `sphere`.
        rain: which variable the scores `seeps` and `fss` are of, and how they see it.
        training: the split that baselines, and the climate of rain, are fitted to.
        mode: `rollout` feeds each step's forecast into the next; `direct` asks for every lead time
            from the initial frame.
        regions: parts of the domain that are scored apart as well: names such as `tropics`, boxes, masks.
        batch: forecasts computed together.
        threads: of the CPU; results are bit-identical only for the same number.
        keep_forecasts: whether the models' forecasts are written.
        title: of the report.
        pictures: which sample the report shows.
        part: `i/n` makes and scores only this share of the forecasts, for arrays of jobs; the last one to end completes
            the evaluation. Under a launcher such as torchrun each process takes its share of the part.
        log: whether the evaluation is logged as a run of MLflow, with its scores, the store and the report.
        tracking: where the registry is, and where the run is logged.
    """

    command: Literal["evaluate"] = "evaluate"
    models: dict[str, str] = Field(min_length=1)
    store: Location
    output: Folder
    starts: StartsConfig = StartsConfig()
    baselines: tuple[BaselineName, ...] = ("persistence",)
    solver: SolverConfig | None = None
    convention: ConventionName | None = None
    scores: tuple[ScoreName, ...] = ()
    ensemble: EnsembleConfig | None = None
    spectra: SpectraName = "zonal"
    rain: RainConfig | None = None
    training: str = "train"
    mode: Mode = "rollout"
    regions: tuple[RegionChoice, ...] = ()
    batch: int = Field(default=16, gt=0)
    threads: int = Field(default=2, gt=0)
    keep_forecasts: bool = True
    title: str = "Evaluation"
    pictures: int = Field(default=0, ge=0)
    part: Part = "1/1"
    log: Changeable[bool] = True
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _distinct_methods(self) -> "EvaluateStage":
        if TRUTH in self.models:
            raise ValueError(f"models: {TRUTH} is what they are held against; give the model another name")
        baselines = {*self.baselines, *([SOLVER] if self.solver else [])}
        if clash := sorted(set(self.models) & baselines):
            raise ValueError(f"models: {', '.join(clash)} is the name of a baseline; give the model another")
        if {"seeps", "fss"} & set(self.scores) and self.rain is None:
            raise ValueError("scores: seeps and fss need `rain: {variable: KEY}`, which says what rain is")
        if "fss" in self.scores and self.rain and not self.rain.thresholds:
            raise ValueError("rain.thresholds: fss needs one amount or more, in the units of the variable")
        share_of(self.part)
        return self

    @property
    def share(self) -> tuple[int, int]:
        """The share of this process as a position, counted from 0, and the number of shares: parts, cut among ranks."""
        (position, count), world = share_of(self.part), distributed.world()
        return position * world + distributed.rank(), count * world


@dataclass(frozen=True, eq=False)
class EvaluationRun:
    """An evaluation that is under way in its folder.

    Attributes:
        config: the configuration.
        store: the truth.
        evaluator: what scores the forecasts.
        archive: the scores of finished batches.
        files: where forecasts are written, by model.
        facts: what the scores are to say of the models.
    """

    config: EvaluateStage
    store: Store
    evaluator: Evaluator
    archive: BatchArchive
    files: Mapping[str, ForecastFiles]
    facts: Mapping[str, Mapping[str, Any]]

    @property
    def scores(self) -> Path:
        """Where what is kept of all forecasts is written."""
        return self.config.output / SCORES

    @property
    def is_scored(self) -> bool:
        """Whether all forecasts have been scored, perhaps by a process that was killed afterwards."""
        return read_attributes(self.scores).get("digest") == self.archive.digest

    def is_finished(self, batch: StartBatch) -> bool:
        """Whether a batch has been scored and its forecasts are written."""
        return self.archive.is_finished(batch) and all(one.is_written(batch) for one in self.files.values())


def run(config: EvaluateStage) -> Evaluation | None:
    """Make the forecasts, score them, and write the report; batches that a killed process has finished are kept.

    Returns:
        The evaluation; None for a share of it that was not the last to end.

    Raises:
        ConfigError: the output folder holds another evaluation.
        DataError: a model does not know the store, or no forecast fits into the split.
        LockedError: another process writes to the output folder.
    """
    position, count = config.share
    with working_share(config.output, config.share):
        work = begin(config)
        if not work.is_scored:
            _score(work, work.archive.batches[position::count])
        if count == 1:
            return conclude(work)
    return _conclude_if_last(work)


def begin(config: EvaluateStage) -> EvaluationRun:
    """Open what an evaluation needs and claim its folder, or find it claimed by the same evaluation.

    Raises:
        ConfigError: the folder holds another evaluation.
        DataError: a model does not know the store, or no forecast fits into the split.
    """
    store = open_store(config.store)
    plan = _plan(config, store)
    folders = {name: model_registry.resolve(path, config.tracking) for name, path in config.models.items()}
    forecasters = {
        name: Forecaster(
            load(folder),
            store,
            config.mode,
            config.batch,
            config.threads,
            f"model {name}",
            ensemble=config.ensemble,
        )
        for name, folder in folders.items()
    }
    inputs = _inputs(config, store, folders)
    run_inputs.claim(config.output, config, inputs)
    # Wherever it is written, it is the same evaluation.
    content = config.model_copy(update={"output": Path()})
    digest = run_folder.fingerprint(content, *(one.checksum for one in inputs), changeable=True)
    for forecaster in forecasters.values():
        forecaster.check(plan)
        forecaster.warn(plan)
    sources: dict[str, FrameSource] = {name: ModelFrames(one, plan) for name, one in forecasters.items()}
    variables = {variable.key: variable for variable in _variables(forecasters.values())}
    if config.solver:
        solver = sources[SOLVER] = SolverFrames.of(config.solver, store, plan)
        for note in solver.notes:
            say(f"note: {note}")
        # What the models do not forecast is scored for the solver alone.
        variables |= {one.key: one for one in solver.stored.channels if one.key not in variables}
    evaluator = make_evaluator(
        store,
        plan,
        list(variables.values()),
        sources,
        config.baselines,
        config.training,
        regions=make_regions(config.regions, store),
        pictured=config.pictures,
        size=config.batch,
        chosen=ChosenScores(
            config.convention, config.scores, len(plan.members) or 1, config.rain, config.spectra
        ),
    )
    _ = evaluator.plan.spectra  # what it refuses is refused before the first forecast is made
    # After all that may refuse the configuration: a folder with nothing written in it is free for the corrected one.
    files = {
        name: ForecastFiles(forecast_path(config, name), one, plan, digest, alone=config.share[1] == 1)
        for name, one in forecasters.items()
        if config.keep_forecasts
    }
    evaluator = replace(evaluator, sinks=files)
    archive = BatchArchive(config.output / "batches", evaluator.plan, plan.batches(config.batch), digest)
    facts = {
        name: {"model": config.models[name], "horizon": one.fit.horizon} for name, one in forecasters.items()
    }
    regression = evaluator.sources.get("regression")
    if isinstance(regression, RegressionFrames):
        facts["regression"] = {"model": regression.describe(), "horizon": None}
    if config.solver:
        facts[SOLVER] = {"model": config.solver.describe(store.grid.shape), "horizon": None}
    return EvaluationRun(config, store, evaluator, archive, files, facts)


def _inputs(config: EvaluateStage, store: Store, folders: Mapping[str, Path]) -> list[RunInput]:
    models = [
        RunInput(
            f"model {name}",
            config.models[name],
            model_registry.pinned(config.models[name], config.tracking),
            model_checksum(folder),
        )
        for name, folder in folders.items()
    ]
    path = str(config.store)
    return [*models, RunInput(f"store {path}", path, path, store_checksum(store))]


def _plan(config: EvaluateStage, store: Store) -> ForecastPlan:
    plan = config.starts.plan(store)
    if config.ensemble is None:
        return plan
    if isinstance(config.ensemble.starts, OtherStarts):
        raise ConfigError(
            "ensemble.starts: `given` starts have no truth of their own here; perturb them by noise or bred"
        )
    plan = with_members(plan, store, config.ensemble, 1)
    if len(plan.members) > config.batch:
        # Spreads and ranks are of all members of a start at once.
        raise ConfigError(
            f"batch: {config.batch} is less than the {len(plan.members)} members of an ensemble"
        )
    return plan


def _variables(forecasters: Iterable[Forecaster]) -> list[Variable]:
    """All variables that one of the models has."""
    variables: dict[str, Variable] = {}
    for forecaster in forecasters:
        variables = {variable.key: variable for variable in forecaster.domain.outputs} | variables
    return list(variables.values())


def forecast_path(config: EvaluateStage, name: str) -> Path:
    """Where the forecasts of a model are written."""
    return config.output / "forecasts" / f"{name}.zarr"


def _score(work: EvaluationRun, batches: Sequence[StartBatch]) -> None:
    """Make, score and write the forecasts of those batches that are not finished."""
    if not all(map(work.is_finished, batches)):
        run_folder.note_code(work.config.output, code_version())
    forecasts, done = sum(len(batch.samples) for batch in batches), 0
    # Forecasters of several models, frame by frame in turn, leave what they set.
    with kept_threads(), bar("evaluate", forecasts) as show:
        for batch in batches:
            if not work.is_finished(batch):
                work.archive.write(batch, work.evaluator.score(batch))
            done += len(batch.samples)
            show(done)


def _conclude_if_last(work: EvaluationRun) -> Evaluation | None:
    """Complete the evaluation unless other shares of it are at work or still to come."""
    try:
        with sole_writer(work.config.output):
            left = 0 if work.is_scored else sum(not work.is_finished(batch) for batch in work.archive.batches)
            if not left:
                return conclude(work)
            say(f"note: {left} batches of forecasts are left to other parts of the evaluation")
    except LockedError:
        say("note: other parts of the evaluation are at work; the last one completes it")
    return None


def conclude(work: EvaluationRun) -> Evaluation:
    """Write what is kept of all forecasts, once it is all there, the scores and the report."""
    give_back_freed()
    if not work.is_scored:
        methods = work.evaluator.plan.everything
        contents = ((name, labelled(work.archive.merged(name), work.store.time_units)) for name in methods)
        write_scores(work.scores, contents, {"digest": work.archive.digest})
    for one in work.files.values():
        one.finish()
    evaluation = evaluation_of(work)
    write_json(work.config.output / "scores.json", json_values(evaluation.scores))
    draw_report.draw(work.config.output)
    work.archive.clear()
    # Of a process that was killed while it wrote the scores or the report.
    remove_partials(work.config.output)
    if work.config.log:
        _log(work, evaluation)
    _print_scores(evaluation)
    return evaluation


def _log(work: EvaluationRun, evaluation: Evaluation) -> None:
    """Log the evaluation as a run of MLflow."""
    config = work.config
    tracker = config.tracking.build(config.output.name, config.output)
    try:
        tracker.params(config.model_dump(mode="json"))
        tracker.datasets({str(work.store.path): store_checksum(work.store)}, "evaluation")
        methods = evaluation.scores["methods"].items()
        errors = {f"{name}/{key}": values[key] for name, values in methods for key in ("one_step", "rollout")}
        tracker.metrics({name: error for name, error in errors.items() if math.isfinite(error)}, 0)
        tracker.files(config.output / "scores.json", config.output / "report.html")
    except BaseException as error:
        # MLflow would show the run as running for ever.
        tracker.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.close()


def evaluation_of(work: EvaluationRun) -> Evaluation:
    """The evaluation from what is kept of all forecasts."""
    plan, training = work.evaluator.plan, work.config.training
    scores = describe_scores(work.store, plan, read_scores(work.scores), training, work.facts)
    # Opened again, since what has been described stays in memory, and the report has all of it there as well.
    return Evaluation(scores, read_scores(work.scores))


def _print_scores(evaluation: Evaluation) -> None:
    methods = evaluation.scores["methods"]
    width = max(len(name) for name in (*methods, "median relative L1"))
    print(
        f"{'median relative L1':<{width}}  one step  rollout  (normalised)       "
        "pooled relative L2 of one step  failed"
    )
    for name, values in methods.items():
        normalised, pooled = values["normalised"], values["pooled_relative_l2"][0]
        print(
            f"{name:<{width}}  {values['one_step']:8.4f} {values['rollout']:8.4f}"
            f"  ({normalised['one_step']:.4f} {normalised['rollout']:.4f})"
            f"  {pooled:8.4f}  {describe_failures(values)}"
        )
    print(f"\nRMSE at the first lead time: {', '.join(methods)}")
    for group in groups_of(methods):
        errors = [values["groups"].get(group) for values in methods.values()]
        cells = ["-" if error is None else f"{error['rmse'][0]:.4g}" for error in errors]
        print(f"  {group}  {'  '.join(cells)}")
    for describe in (interval_lines, convention_lines, chosen_lines, horizon_lines):
        if lines := describe(evaluation.scores):
            print("\n".join(["", *lines]))
    if fitted := evaluation.scores["models"].get("regression"):
        print(f"note: regression: {fitted['model']}")
    for line in describe_left_out(evaluation.scores):
        print(f"note: {line}")
