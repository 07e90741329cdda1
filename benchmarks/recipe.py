"""Which choices of the training recipe pay: `make bench-recipe`, an ablation on a fixed suite at a small size.

One small transformer is pretrained on decaying flow, reaction and diffusion and steady Darcy flow, and fine-tuned to
three tasks of few trajectories; weather is learnt from fresh weights. Each variant changes one thing of the base. What
is done is kept in a file of results, so that the command goes on where it stopped, also with more variants or seeds.
"""

import argparse
import json
import math
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.harness import heading, line
from benchmarks.recipe_data import stores
from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.score_summary import summarise
from pelagos.evaluation.streaming.score_archive import labelled, sums_of
from pelagos.evaluation.verification import make_evaluator
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs.configuration import merge, validate
from pelagos.pipeline.runs.model_folder import load
from pelagos.pipeline.stages import finetune, pretrain
from pelagos.pipeline.stages.scored_forecasts import ModelFrames
from pelagos.pipeline.stages.sweep import headline
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training.loss_guard import BadStepError
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.files.durable import json_checksum, write_json
from pelagos.preprocessing.store.store import open_store

Values = dict[str, Any]
T = TypeVar("T", bound=TrainingStage)
BASE = "base"
NETWORK: Values = {
    "kind": "scot",
    "embed_dim": 32,
    "depths": [2, 2],
    "num_heads": [2, 4],
    "skip_connections": [1, 0],
    "window_size": 8,
    "patch_size": 4,
    "upsampling": "bilinear",
}
MIXTURE: dict[str, Values] = {
    "navier_stokes": {
        "time_scale": 0.3,
        "num_trajectories": 64,
        "sampling": {"kind": "pairs", "max_lead": 7},
    },
    "gray_scott": {"time_scale": 75, "num_trajectories": 32, "sampling": {"kind": "pairs", "max_lead": 7}},
    "darcy": {"num_trajectories": 256},
}
TRAINING: Values = {
    "loop": {"batch_size": 16, "micro_batch": 8, "ema": 0.98, "validation_samples": 8, "peak_flops": 1e12},
    "optimizer": {"weight_decay": 0.01},
    "schedule": {"warmup": 20},
    "threads": 1,
}


@dataclass(frozen=True)
class Variant:
    """What is other than in the base.

    Attributes:
        everywhere: values of pretraining, fine-tuning and the weather's training.
        pretrain: values of pretraining and the weather's training.
        finetune: values of fine-tuning.
        samples: values of the data of all evolving problems.
        tuned: values of the evolving data of fine-tuning.
        weather: values of the weather's data.
        labels: whether the equation labels states in fine-tuning.
    """

    everywhere: Values = field(default_factory=dict)
    pretrain: Values = field(default_factory=dict)
    finetune: Values = field(default_factory=dict)
    samples: Values = field(default_factory=dict)
    tuned: Values = field(default_factory=dict)
    weather: Values = field(default_factory=dict)
    labels: bool = False


VARIANTS: dict[str, Variant] = {
    BASE: Variant(),
    "increment": Variant(pretrain={"scaling": "increment"}),
    "per_sample": Variant(pretrain={"network": {"per_sample": True}}),
    "history": Variant(samples={"history": [1]}),
    "noise": Variant(everywhere={"objective": {"noise": 0.03}}),
    "rollout": Variant(
        finetune={"objective": {"gradient": "pushforward"}},
        tuned={"sampling": {"kind": "rollouts", "steps": 3, "stop": 8}},
    ),
    "equation": Variant(labels=True),
    "mse": Variant(everywhere={"loss": {"kind": "mse"}}),
    "l2": Variant(everywhere={"loss": {"p": 2}}),
    "gradient": Variant(everywhere={"loss": {"gradient": 0.5}}),
    "h1": Variant(everywhere={"loss": {"p": 2, "gradient": 0.5}}),
    "octaves": Variant(everywhere={"loss": {"octaves": 0.3}}),
    "muon": Variant(everywhere={"optimizer": {"matrices": "muon"}}),
}


@dataclass(frozen=True)
class Task:
    """Data that a pretrained model is adapted to, or that a fresh one learns, and how that is scored.

    Attributes:
        samples: of the training data.
        starts: of the forecasts that are scored; all start from frame 1, the first with a frame before it.
        evolves: whether time passes in it.
        labels: how an equation labels states, where one can.
        normalised: whether errors are of normalised fields: some of the weather's have an offset.
    """

    samples: Values
    starts: Values
    evolves: bool = True
    labels: Values | None = None
    normalised: bool = False


TASKS: dict[str, Task] = {
    "kolmogorov": Task(
        {"time_scale": 0.3, "num_trajectories": 4, "sampling": {"kind": "pairs", "stop": 8}},
        {"first": 1, "steps": 10},
        labels={
            "equation": {"kind": "kolmogorov"},
            "static": "drawn",
            "states": "mixed",
            "scalars": {"viscosity": {"low": 5e-4, "high": 2e-3, "scale": "log"}},
        },
    ),
    "allen_cahn": Task(
        {"time_scale": 0.35, "num_trajectories": 8, "sampling": {"kind": "pairs", "stop": 8}},
        {"first": 1, "steps": 10},
        labels={
            "equation": {"kind": "allen_cahn", "length": 0.5},
            "states": "mixed",
            "scalars": {"diffusivity": {"low": 0.005, "high": 0.015}, "rate": {"low": 5.0, "high": 10.0}},
        },
    ),
    "smooth_darcy": Task({"num_trajectories": 16}, {}, evolves=False),
    "wfde5": Task(
        {"time_scale": 21600, "valid_forcing": True, "sampling": {"kind": "pairs", "max_lead": 6}},
        {"first": 1, "every": 12, "stride": 6, "steps": 4},
        normalised=True,
    ),
}


class Untracked(TrackingConfig):
    """No server is told of the runs."""

    def build(self, name: str, folder: Path, active: bool = True) -> Tracker:
        """See TrackingConfig."""
        return Tracker()


@dataclass(frozen=True)
class Suite:
    """Makes runs, each once.

    Attributes:
        root: folder of stores and models.
        paths: the stores by name.
        steps: of pretraining and of the weather's training; fine-tuning takes half as many.
    """

    root: Path
    paths: Mapping[str, Path]
    steps: int

    def pretraining(self, variant: Variant, seed: int) -> pretrain.PretrainStage:
        """A variant of pretraining on the mixture."""
        data = [
            merge({"path": str(self.paths[name]), **values}, variant.samples if "sampling" in values else {})
            for name, values in MIXTURE.items()
        ]
        return self._pretrain({"data": data}, variant, seed)

    def weather(self, variant: Variant, seed: int) -> pretrain.PretrainStage:
        """A variant of training on the weather alone."""
        data = merge({"path": str(self.paths["wfde5"]), **TASKS["wfde5"].samples}, variant.samples)
        return self._pretrain({"data": [merge(data, variant.weather)]}, variant, seed)

    def finetuning(self, variant: Variant, name: str, seed: int) -> finetune.FinetuneStage:
        """A variant of adapting its pretrained model to a task."""
        task = TASKS[name]
        data = {"path": str(self.paths[name]), **task.samples}
        values = {"model": str(self.pretraining(variant, seed).output / "model"), "data": data, "seed": seed}
        values = merge(
            merge(TRAINING, values), {"optimizer": {"lr": 1e-3}, "loop": {"steps": self.steps // 2}}
        )
        values = merge(values, variant.everywhere)
        if task.evolves:
            values = merge(merge(values, variant.finetune), {"data": merge(variant.samples, variant.tuned)})
            if variant.labels:
                values["equation_labels"] = {**(task.labels or {}), "finer": 2}
        return self._placed(finetune.FinetuneStage, values)

    def _pretrain(self, values: Values, variant: Variant, seed: int) -> pretrain.PretrainStage:
        fixed = {"network": NETWORK, "seed": seed, "optimizer": {"lr": 2e-3}, "loop": {"steps": self.steps}}
        values = merge(merge(TRAINING, fixed), values)
        return self._placed(
            pretrain.PretrainStage, merge(merge(values, variant.everywhere), variant.pretrain)
        )

    def _placed(self, stage: type[T], values: Values) -> T:
        """In a folder by its content, so that variants share what is the same of them."""
        found = validate({**values, "output": str(self.root)}, stage, "recipe")
        folder = self.root / "runs" / json_checksum(found.model_dump(mode="json"))[:16]
        return found.model_copy(update={"output": folder, "tracking": Untracked()})

    def stage(self, variant: Variant, name: str, seed: int) -> TrainingStage:
        """The run that a task is scored by."""
        return self.weather(variant, seed) if name == "wfde5" else self.finetuning(variant, name, seed)

    def scores(self, variant: Variant, name: str, seed: int) -> dict[str, float]:
        """Train, and score on held-out trajectories; infinite errors of a training that failed."""
        try:
            if name == "wfde5":
                model = pretrain.run(self.weather(variant, seed))
            else:
                source = self.pretraining(variant, seed)
                _slim(pretrain.run(source).parent)
                model = finetune.run(self.finetuning(variant, name, seed))
        except BadStepError as error:
            print(f"{name}: {error}", flush=True)
            return {"one_step": math.inf, "rollout": math.inf}
        found = _scores(model, self.paths[name], TASKS[name])
        shutil.rmtree(model.parent)
        return found


def _slim(folder: Path) -> None:
    """Leave of a run what tells that it has finished, and its model."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _scores(folder: Path, path: Path, task: Task) -> dict[str, float]:
    """The median relative L1 error of one step, and its mean over a rollout."""
    store = open_store(path)
    plan = StartsConfig.model_validate({"split": "test", **task.starts}).plan(store)
    forecaster = Forecaster(load(folder), store, "rollout", threads=1)
    forecaster.check(plan)
    sources = {"model": ModelFrames(forecaster, plan)}
    evaluator = make_evaluator(store, plan, forecaster.domain.outputs, sources, size=16)
    state = evaluator.score_all(16)["model"]
    found = headline(summarise(sums_of(labelled(state, store.time_units))))
    prefix = "normalised_" if task.normalised else ""
    return {key: found[prefix + key] for key in ("one_step", "rollout")}


class Results:
    """What has been computed so far, in a JSON file; each figure with a checksum of what it is of."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.values: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def has(self, name: str, digest: str) -> bool:
        """Whether there are figures of this name, of the same configuration."""
        return name in self.values and self.values[name]["digest"] == digest

    def keep(self, name: str, digest: str, scores: Mapping[str, float], seconds: float) -> None:
        """Write the figures of a run."""
        # JSON has no infinity.
        told = {key: value if math.isfinite(value) else None for key, value in scores.items()}
        self.values[name] = {"digest": digest, **told, "seconds": round(seconds, 1)}
        write_json(self.file, self.values)
        print(f"{name}: {told}, {seconds:.0f} s", flush=True)

    def of(self, name: str, key: str) -> float:
        """A figure."""
        value = self.values[name][key]
        return math.inf if value is None else float(value)


@dataclass(frozen=True)
class Run:
    """One variant on one task with one seed."""

    variant: str
    task: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant}, {self.task}, seed {self.seed}"


def digest(suite: Suite, run: Run) -> str:
    """What decides a run's figures: its configuration, that of its model, and its task.

    Without defaults, so that options which come later do not ask for all of it again.
    """
    variant = VARIANTS[run.variant]
    stages = [suite.stage(variant, run.task, run.seed)]
    if run.task != "wfde5":
        stages.append(suite.pretraining(variant, run.seed))
    places = {"output", "model", "tracking"}
    plain = [one.model_dump(mode="json", exclude=places, exclude_defaults=True) for one in stages]
    return json_checksum([plain, TASKS[run.task].starts])


def table(results: Results, runs: Sequence[Run], same: Mapping[Run, bool]) -> list[str]:
    """The medians of each variant over seeds, in brackets the extremes, and the ratio to the base's median."""
    tasks, seeds = list(dict.fromkeys(r.task for r in runs)), list(dict.fromkeys(r.seed for r in runs))
    columns = [
        (task, key)
        for task in tasks
        for key in (("one_step", "rollout") if TASKS[task].evolves else ("one_step",))
    ]
    lines = [heading(("variant", *(f"{task}, {key.replace('_', ' ')}" for task, key in columns)))]
    for variant in dict.fromkeys(r.variant for r in runs):
        cells = []
        for task, key in columns:
            own = [Run(variant, task, seed) for seed in seeds]
            base = statistics.median(results.of(str(Run(BASE, task, seed)), key) for seed in seeds)
            found = [] if any(same[one] for one in own) else [results.of(str(one), key) for one in own]
            cells.append(_cell(found, base))
        lines.append(line((variant, *cells)))
    return lines


def _cell(found: Sequence[float], base: float) -> str:
    if not found:
        return "as base"
    median = statistics.median(found)
    return f"{median:.4g} ({min(found):.3g}-{max(found):.3g}), {median / base:.2f}"


def main() -> None:
    """Do what is not yet done, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help="of pretraining; fine-tuning takes half")
    parser.add_argument("--root", type=Path, default=Path("runs/bench-recipe"))
    options = parser.parse_args()
    suite = Suite(options.root, stores(options.root), options.steps)
    results = Results(options.root / f"results-{options.steps}.json")
    tasks = [name for name in options.tasks if name in suite.paths]
    variants = list(dict.fromkeys((BASE, *options.variants)))
    # All variants of a seed before the next: a table of fewer seeds is there early.
    runs = [
        Run(variant, task, seed) for seed in range(options.seeds) for variant in variants for task in tasks
    ]
    digests = {run: digest(suite, run) for run in runs}
    same = {
        run: run.variant != BASE and digests[run] == digests[Run(BASE, run.task, run.seed)] for run in runs
    }
    left = [run for run in runs if not same[run] and not results.has(str(run), digests[run])]
    print(f"{len(left)} of {len(runs) - sum(same.values())} runs are left", flush=True)
    for run in left:
        begin = time.process_time()
        found = suite.scores(VARIANTS[run.variant], run.task, run.seed)
        results.keep(str(run), digests[run], found, time.process_time() - begin)
    print(
        f"\n{options.steps} steps of pretraining, {options.seeds} seeds; error, then its ratio to the base\n"
    )
    print("\n".join(table(results, runs, same)))


if __name__ == "__main__":
    main()
