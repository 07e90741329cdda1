"""Commands: which module and configuration class each stage has, without importing any of them."""

import difflib
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from pelagos.preprocessing.errors import ConfigError


class Stage(NamedTuple):
    """Where the configuration class and `run` of a command are, and what the command does."""

    module: str
    config: str
    help: str


# Names, not classes: `pelagos --help` must not load torch, which takes seconds.
STAGES = {
    "simulate": Stage(
        "simulate", "SimulateStage", "Make trajectories of an equation, in an archive's format."
    ),
    "build": Stage("build", "BuildStage", "Turn an archive into a sharded Zarr store."),
    "pretrain": Stage("pretrain", "PretrainStage", "Train a network on a mixture of stores."),
    "finetune": Stage("finetune", "FinetuneStage", "Adapt a model to a store with little data."),
    "sweep": Stage("sweep", "SweepStage", "Measure what a model is worth after few trajectories."),
    "refine": Stage("refine", "RefineStage", "Refine forecasts with the residual of their equation."),
    "forecast": Stage(
        "forecast", "ForecastStage", "Forecast from a store or an archive, beyond the data too."
    ),
    "evaluate": Stage("evaluate", "EvaluateStage", "Score rollouts of models against baselines."),
    "register": Stage("register", "RegisterStage", "Make a model a version in the MLflow registry."),
    "promote": Stage("promote", "PromoteStage", "Point an alias to a version that passes its gates."),
    "demo": Stage("demo", "DemoStage", "Walk the whole road on simulated archives."),
}
PARALLEL = ("pretrain", "finetune")
"""Commands of training, which run in several processes."""


def stage_module(command: str) -> ModuleType:
    """The module of a command's stage. Imported here, since most of them load torch."""
    return import_module(f"pelagos.pipeline.stages.{STAGES[command].module}")


def config_class(command: str) -> Any:
    """The configuration class of a command."""
    return getattr(stage_module(command), STAGES[command].config)


def command_of_class(cls: type) -> str:
    """The command of a configuration class."""
    return next(name for name, stage in STAGES.items() if stage.config == cls.__name__)


def known_command(command: str) -> str:
    """The command itself.

    Raises:
        ConfigError: no configuration is for it.
    """
    if command not in STAGES:
        # A typing mistake is far more common than a command that does not exist.
        near = difflib.get_close_matches(command, STAGES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"those that do are {', '.join(STAGES)}"
        raise ConfigError(f"no command {command} takes a configuration; {hint}")
    return command


def command_of(config: str) -> str:
    """The command that a configuration is for.

    Args:
        config: a YAML file, or the name of a shipped one.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: it names no command.
    """
    from pelagos.pipeline.runs.configuration import find_config, read_yaml

    command = read_yaml(find_config(config)).get("command")
    if command not in STAGES:
        raise ConfigError(f"{config}: `command` must be one of {', '.join(STAGES)}, not {command!r}")
    return str(command)
