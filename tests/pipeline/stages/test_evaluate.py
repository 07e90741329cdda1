import json
from pathlib import Path

import pytest

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.pipeline.stages.evaluate import EvaluateStage, forecast_path, run
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.store.store import Store, open_store

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


def model(store: Store, names: tuple[str, ...]) -> Model:
    """A network with fresh weights for some of the waves' variables, trained for one frame."""
    variables = tuple(variable for variable in store.variables if variable.key in names)
    config, signature = FNOConfig(width=4, modes=(2, 2), num_layers=1), Signature(names, names, shape=(8, 8))
    domain = Domain(
        inputs=variables,
        outputs=variables,
        scales={name: VariableScale(mean=0, std=1) for name in names},
        time_scale=store.dt,
        time_units=store.time_units,
        grid=TrainedGrid.of(store.grid),
        min_lead=store.dt,
        max_lead=store.dt,
        horizon=store.dt,
    )
    return Model(config, config.build(signature), signature, {"waves": domain})


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_models_of_different_variables_are_scored_side_by_side(
    waves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(waves)
    model(store, ("displacement",)).save(tmp_path / "narrow")
    model(store, ("displacement", "displacement_rate")).save(tmp_path / "wide")
    values = {
        "models": {"narrow": str(tmp_path / "narrow"), "wide": str(tmp_path / "wide")},
        "store": waves,
        "output": tmp_path / "scores",
        "starts": {"split": "valid", "steps": 2},
        "mode": "direct",
    }
    run(configuration.validate(values, EvaluateStage, "evaluate.yaml"))
    printed = capsys.readouterr()
    assert "displacement_rate  -  " in printed.out
    assert "0 of 2" in printed.out
    for name in ("narrow", "wide"):
        assert printed.err.count(f"WARNING: model {name}: asked for a lead time of 0.04") == 1
    found = json.loads((tmp_path / "scores" / "scores.json").read_text(), parse_constant=refused)
    assert list(found["methods"]["narrow"]["groups"]) == ["displacement"]
    assert found["models"]["wide"] == {"model": str(tmp_path / "wide"), "horizon": pytest.approx(0.02)}
    assert (tmp_path / "scores" / "report.html").is_file()
