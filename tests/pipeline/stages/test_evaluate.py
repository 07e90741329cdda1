import pytest

from pelagos.pipeline.runs import configuration
from pelagos.pipeline.stages.evaluate import EvaluateStage, forecast_path
from pelagos.preprocessing.errors import ConfigError

VALUES = {"models": {"net": "model"}, "store": "store.zarr", "output": "runs/evaluation"}


def test_a_model_named_like_a_baseline_is_refused_with_the_configuration() -> None:
    values = {**VALUES, "models": {"persistence": "model"}}
    with pytest.raises(ConfigError, match="persistence is the name of a baseline"):
        configuration.validate(values, EvaluateStage, "evaluate.yaml")
    configuration.validate({**values, "baselines": ["stencil"]}, EvaluateStage, "evaluate.yaml")


def test_forecasts_of_different_models_have_different_places() -> None:
    config = configuration.validate(VALUES, EvaluateStage, "evaluate.yaml")
    first, second = forecast_path(config, "net"), forecast_path(config, "other")
    assert first != second
    assert first.parent == second.parent == config.output / "forecasts"
