"""Registering a model: names are checked first, and the version is said and written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs.closing_lines import closing_lines
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.stages.register import RegisterStage, run
from pelagos.pipeline.tracking import model_registry
from pelagos.preprocessing.errors import DamagedFileError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("register") / "model"
    config = FNOConfig(width=4, modes=(2, 2), num_layers=1)
    signature = Signature(("u",), ("u",), shape=(8, 8))
    Model(config, config.build(signature), signature, {}).save(folder)
    return folder


def stage(model: Path, **values: Any) -> RegisterStage:
    tracking = {"uri": f"sqlite:///{model.parent}/mlflow.db"}
    return RegisterStage.model_validate({"model": model, "name": "ocean", "tracking": tracking, **values})


def test_versions_follow_each_other_and_the_alias_follows_them(model: Path, tmp_path: Path) -> None:
    assert run(stage(model)).version == 1
    # Other weights: the same files would make no version.
    other = load(model)
    torch.nn.init.zeros_(next(other.network.parameters()))
    other.save(tmp_path / "model")
    tracking = stage(model).tracking
    values = {"alias": "best", "output": tmp_path / "version.json", "tracking": tracking}
    config = stage(tmp_path / "model", **values)
    version = run(config)
    assert json.loads((tmp_path / "version.json").read_text()) == {
        "name": "ocean",
        "version": 2,
        "alias": "best",
        "checksum": model_checksum(tmp_path / "model"),
    }
    folder = model_registry.resolve("models:/ocean@best", config.tracking)
    for file in ("weights.safetensors", "model.json"):
        assert (folder / file).read_bytes() == (tmp_path / "model" / file).read_bytes()
    assert version == model_registry.ModelVersion("ocean", 2, "best", model_checksum(tmp_path / "model"))


def test_a_damaged_model_is_not_registered(model: Path, tmp_path: Path) -> None:
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = bytearray((tmp_path / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(weights)
    with pytest.raises(DamagedFileError):
        run(stage(tmp_path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a/b"}, "must have none of / : @"),
        ({"alias": "v3"}, "is neither `latest` nor"),
        ({"alias": "a b"}, "an alias has letters, digits"),
        ({"model": "models:/ocean@best"}, "registered already"),
    ],
)
def test_names_that_mlflow_would_refuse_are_refused_first(
    model: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        RegisterStage.model_validate({"model": model, "name": "ocean", **values})


def test_a_model_is_registered_where_its_training_run_is_unknown(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run" / "model"
    shutil.copytree(model, copy)
    # The run was tracked by another server.
    (copy.parent / "mlflow_run").write_text("0" * 32)
    config = stage(copy, name="lake")
    version = run(config)
    assert f"is not at {config.tracking.uri}" in capsys.readouterr().out
    assert model_registry.resolve(f"models:/lake/{version.version}", config.tracking).is_dir()


def test_a_process_killed_before_the_alias_leaves_a_version_that_the_next_one_finds(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = stage(model, name="river")
    client = config.tracking.client()

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "set_registered_model_alias", killed)
    with monkeypatch.context() as patch:
        patch.setattr(type(config.tracking), "client", lambda self: client)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert config.tracking.client().get_registered_model("river").aliases == {}
    assert run(config).version == 1
    assert dict(config.tracking.client().get_registered_model("river").aliases) == {"champion": 1}


def test_a_version_without_an_alias_is_not_said_to_have_one(model: Path) -> None:
    [line] = closing_lines("register", stage(model, alias=None))
    assert "None" not in line
    assert "pelagos models promote" in line


def test_a_version_keeps_the_card_that_it_was_registered_with(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(stage(model, name="pond", licence="MIT"))
    assert "keeps the card" not in capsys.readouterr().err
    run(stage(model, name="pond", licence="CC-BY-4.0"))
    assert "keeps the card and the licence" in capsys.readouterr().err
