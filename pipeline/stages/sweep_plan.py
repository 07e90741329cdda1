"""Sweep plan: which runs a sweep is made of, each with its own configuration, and where they write."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.pipeline.runs.configuration import merge, validate
from pelagos.pipeline.stages.finetune import FinetuneStage
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.dataset import DatasetConfig

RESULT = "result.json"


@dataclass(frozen=True)
class Candidate:
    """One way to train a method.

    Attributes:
        lr: the highest learning rate.
        steps: optimiser steps.
    """

    lr: float
    steps: int

    def __str__(self) -> str:
        return f"lr{self.lr:g}-steps{self.steps}"


@dataclass(frozen=True)
class SweepRun:
    """A model of one method, trained on some trajectories of one task.

    Attributes:
        task: whose data it learns.
        method: how it is trained.
        trajectories: how many it learns from.
        seed: of its training.
        candidate: which way of the method it is.
        config: of the training.
        starts: of the forecasts that are scored.
    """

    task: str
    method: str
    trajectories: int
    seed: int
    candidate: Candidate
    config: FinetuneStage
    starts: StartsConfig

    @property
    def data(self) -> DatasetConfig:
        """The store that it learns from and is scored on."""
        assert isinstance(self.config.data, DatasetConfig)
        return self.config.data

    @property
    def result(self) -> Path:
        """Where its scores are kept."""
        return self.config.output / RESULT

    def read_result(self, digest: str) -> dict[str, Any] | None:
        """What is kept of it where it was scored in the same way; None where it was not."""
        if not self.result.is_file():
            return None
        kept: dict[str, Any] = json.loads(self.result.read_text(encoding="utf-8"))
        return kept if kept.get("digest") == digest else None


class MethodConfig(Config):
    """How a method is trained.

    Attributes:
        changes: values of `finetune` that are others for it, in the same form.
        lr: learning rates (`optimizer.lr`) that are tried; that of `finetune` by default.
        steps: lengths (`loop.steps`) that are tried; that of `finetune` by default.
    """

    changes: dict[str, Any] = Field(default_factory=dict)
    lr: tuple[PositiveFloat, ...] = ()
    steps: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _tried_or_given(self) -> Self:
        for section, key, tried in (("optimizer", "lr", self.lr), ("loop", "steps", self.steps)):
            given = self.changes.get(section)
            if tried and isinstance(given, Mapping) and key in given:
                raise ValueError(
                    f"changes.{section}.{key}: `{key}` lists what is tried; leave out one of them"
                )
        return self


class TaskConfig(Config):
    """Data that all methods learn.

    Attributes:
        changes: values of `finetune` that are others for it, `data` above all.
        starts: of the forecasts that are scored; those of the sweep by default.
    """

    changes: dict[str, Any] = Field(default_factory=dict)
    starts: StartsConfig | None = None


def refuse_own_settings(values: Mapping[str, Any], where: str) -> None:
    """Refuse settings of a training that a sweep makes for each of its runs.

    Raises:
        ValueError: there is one, which would be overridden.
    """
    for key in ("output", "name", "seed", "seeds"):
        if key in values:
            raise ValueError(f"{where}.{key}: each run of a sweep has its own; leave it out")
    # A configuration of `pelagos finetune` may have been copied whole.
    if (command := values.get("command", "finetune")) != "finetune":
        raise ValueError(
            f"{where}.command: all runs of a sweep are of finetune, not {command!r}; leave it out"
        )
    data = values.get("data")
    if isinstance(data, Mapping) and data.get("num_trajectories") is not None:
        raise ValueError(
            f"{where}.data.num_trajectories: each run takes one of the sweep's `trajectories`; leave it out"
        )


def plan_runs(
    finetune: Mapping[str, Any],
    tasks: Mapping[str, TaskConfig],
    methods: Mapping[str, MethodConfig],
    trajectories: tuple[int, ...],
    seeds: tuple[int, ...],
    starts: StartsConfig,
    output: Path,
) -> Iterator[SweepRun]:
    """All runs of a sweep, with configurations that are checked.

    Raises:
        ConfigError: one of them has errors, or does not learn from a store.
    """
    for (task, chosen), (method, tried) in product(tasks.items(), methods.items()):
        values = merge(merge(finetune, chosen.changes), tried.changes)
        where = f"finetune, for {method} on {task}"
        plain = _validated(values, output, where)
        if not isinstance(plain.data, DatasetConfig):
            raise ConfigError(
                f"{where}: data: a sweep takes the first trajectories of a store, not a simulation"
            )
        rates, lengths = tried.lr or (plain.optimizer.lr,), tried.steps or (plain.loop.steps,)
        for number, lr, steps, seed in product(trajectories, rates, lengths, seeds):
            candidate = Candidate(lr, steps)
            folder = output / "runs" / task / method / f"m{number}-{candidate}-seed{seed}"
            own = {
                "seed": seed,
                "name": "-".join((output.name, task, method, folder.name)),
                "data": {"num_trajectories": number},
                "optimizer": {"lr": lr},
                "loop": {"steps": steps},
            }
            config = _validated(merge(values, own), folder, where)
            yield SweepRun(task, method, number, seed, candidate, config, chosen.starts or starts)


def _validated(values: Mapping[str, Any], output: Path, where: str) -> FinetuneStage:
    return validate({**values, "command": "finetune", "output": str(output)}, FinetuneStage, where)
