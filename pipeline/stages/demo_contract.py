"""What the demo's summary and report rely on: its single stages, and the names of methods and scores."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pelagos.pipeline.stages.evaluate import EvaluateStage, forecast_path
from pelagos.pipeline.stages.forecast import ForecastStage
from pelagos.pipeline.stages.refine import RefineStage
from pelagos.pipeline.stages.register import RegisterStage
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

Score = Literal["one_step", "rollout"]
StageConfig = TypeVar("StageConfig", bound=Config)


@dataclass(frozen=True)
class DemoScores:
    """One score of the methods that the demo compares; the fields are the methods' names in the evaluation."""

    finetuned: float
    scratch: float
    persistence: float


METHODS = tuple(DemoScores.__dataclass_fields__)


@dataclass(frozen=True)
class DemoContract:
    """The stages of the demo that its summary and report read, known to fit together.

    Attributes:
        evaluate: scores every method of `DemoScores`.
        refine: its costs are part of the summary.
        register: writes the version of the model it registers.
        forecast: repeats the fine-tuned model's forecasts from the registry.
    """

    evaluate: EvaluateStage
    refine: RefineStage
    register: RegisterStage
    forecast: ForecastStage

    @classmethod
    def of(cls, configs: Iterable[Config]) -> "DemoContract":
        """The contract of a demo with these stages.

        Raises:
            ConfigError: a stage is missing or there are several, or they do not fit together.
        """
        configs = list(configs)
        contract = cls(
            _only(configs, EvaluateStage),
            _only(configs, RefineStage),
            _only(configs, RegisterStage),
            _only(configs, ForecastStage),
        )
        contract._check_methods()
        contract._check_registry()
        return contract

    @property
    def version_file(self) -> Path:
        """Where the register stage writes the version."""
        assert self.register.output is not None, "checked by `of`"
        return self.register.output

    @property
    def finetuned_forecasts(self) -> Path:
        """Where the evaluation writes the forecasts that the registered model has to repeat."""
        return forecast_path(self.evaluate, "finetuned")

    def scores(self, methods: Mapping[str, Mapping[str, Any]], score: Score) -> DemoScores:
        """One score of every compared method, from the `methods` of scores.json."""
        return DemoScores(**{name: methods[name][score] for name in METHODS})

    def _check_methods(self) -> None:
        found = (*self.evaluate.models, *self.evaluate.baselines)
        if missing := [name for name in METHODS if name not in found]:
            raise ConfigError(
                f"stages.evaluate: the demo reports on {', '.join(METHODS)}, but the evaluation has no"
                f" {', '.join(missing)}, only {', '.join(found)}: name models and baselines so"
            )

    def _check_registry(self) -> None:
        """That the forecast from the registry can be compared with the evaluation's, bit for bit."""
        if self.register.output is None:
            raise ConfigError("stages.register.output: the demo's summary needs the file of the version")
        address = f"models:/{self.register.name}@{self.register.alias}"
        if self.forecast.model != address:
            raise ConfigError(f"stages.forecast.model is {self.forecast.model}, registered is {address}")
        if self.register.model != Path(self.evaluate.models["finetuned"]):
            raise ConfigError(
                f"stages.register.model is {self.register.model}, but evaluated as finetuned is"
                f" {self.evaluate.models['finetuned']}"
            )
        # The size of batches and the number of threads change the order of sums, hence the last bits.
        for key in ("store", "starts", "mode", "batch", "threads"):
            ours, theirs = getattr(self.forecast, key), getattr(self.evaluate, key)
            if ours != theirs:
                raise ConfigError(
                    f"stages.forecast.{key} is {ours}, stages.evaluate.{key} is {theirs}: the demo compares"
                    " the forecasts of both, so these must agree"
                )


def _only(configs: Iterable[Config], cls: type[StageConfig]) -> StageConfig:
    """The one stage of a kind."""
    found = [config for config in configs if isinstance(config, cls)]
    if len(found) != 1:
        [command] = get_args(cls.model_fields["command"].annotation)
        raise ConfigError(f"stages: the demo has one stage of the command {command}; found {len(found)}")
    return found[0]
