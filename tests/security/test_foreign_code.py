"""What strangers send runs nothing: models, checkpoints, stores, registered versions and configurations."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from analytic_source import configuration
from typer.testing import CliRunner, Result

from pelagos.models.context import Signature
from pelagos.models.networks.network import ExternalConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.engine import checkpoint, checkpoint_writer
from pelagos.pipeline.engine.saved_tensors import whole_share
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, UntrustedCodeError
from pelagos.preprocessing.safety.trust import trusting

NETWORK = {"kind": "external", "path": "stranger:Net"}
ASKED = r"asks to import 'stranger:\w+' \(kind: external\).*nothing was imported.*--trust stranger:\w+"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_refused(result: Result, mark: Path, file: Path | str) -> None:
    told = " ".join(result.output.split())
    assert result.exit_code == UntrustedCodeError.exit_code, result.output
    assert str(file) in told
    assert "asks to import 'stranger:" in told
    assert "--trust stranger:" in told
    assert "Traceback" not in result.output
    assert not mark.exists()


@pytest.fixture
def model(tmp_path: Path, mark: Path) -> Path:
    """A stranger's model, whose network is a class of theirs."""
    config = ExternalConfig(path="stranger:Net")
    signature = Signature(("u",), ("u",), shape=(8, 8))
    folder = tmp_path / "model"
    Model(config, config.build(signature), signature, {}).save(folder)
    forget(mark)
    return folder


@pytest.fixture
def store(tmp_path: Path, mark: Path) -> Path:
    """A stranger's store with a damaged shard, whose sources a class of theirs reads."""
    config = configuration(tmp_path)
    path = build(
        config.model_copy(update={"source": config.source.model_copy(update={"path": "stranger:Analytic"})})
    )
    shard = sorted(file for file in (path / "state/c").rglob("*") if file.is_file())[0]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    forget(mark)
    return path


def forget(mark: Path) -> None:
    mark.unlink(missing_ok=True)
    sys.modules.pop("stranger", None)


def test_a_model_runs_nothing_until_its_class_is_named(model: Path, mark: Path) -> None:
    with pytest.raises(UntrustedCodeError, match=ASKED):
        load(model)
    assert not mark.exists()
    with trusting(["another:Net"]), pytest.raises(UntrustedCodeError):
        load(model)
    assert not mark.exists()
    with trusting(["stranger:Net"]):
        assert type(load(model).network).__name__ == "Net"
    assert mark.exists()


def test_trust_ends_with_its_block_and_has_one_form() -> None:
    with pytest.raises(ConfigError, match="must have the form package"), trusting(["stranger"]):
        pass


COMMANDS: dict[str, dict[str, Any]] = {
    "forecast": {"model": "MODEL", "store": "STORE", "output": "OUT"},
    "evaluate": {"models": {"theirs": "MODEL"}, "store": "STORE", "output": "OUT"},
    "refine": {
        "model": "MODEL",
        "store": "STORE",
        "output": "OUT",
        "equation": {"kind": "wave"},
        "starts": {"steps": 2},
    },
    "register": {"model": "MODEL", "name": "theirs"},
    "finetune": {
        "model": "MODEL",
        "data": {"path": "STORE"},
        "output": "OUT",
        "loop": {"steps": 1, "batch_size": 1, "micro_batch": 1},
    },
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_loads_a_model_refuses_it(
    command: str, model: Path, store: Path, mark: Path, tmp_path: Path
) -> None:
    text = json.dumps({"command": command, **COMMANDS[command]})
    for name, value in {"MODEL": model, "STORE": store, "OUT": tmp_path / "out"}.items():
        text = text.replace(name, str(value))
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert_refused(
        invoke(command, file, "tracking.uri=sqlite:///" + str(tmp_path / "no.db")), mark, model / "model.json"
    )
    if command == "finetune":
        assert_refused(invoke("check", file), mark, model / "model.json")


def test_a_registered_version_runs_nothing(model: Path, mark: Path, tmp_path: Path) -> None:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    run = tracking.client().create_run(tracking.experiment_id()).info.run_id
    model_registry.register(tracking, model, "theirs", "champion", run)
    with pytest.raises(UntrustedCodeError, match=ASKED):
        load(model_registry.resolve("models:/theirs@champion", tracking))
    assert not mark.exists()


def test_a_checkpoint_runs_nothing(mark: Path, tmp_path: Path) -> None:
    path = checkpoint.path_of(tmp_path, 1)
    checkpoint_writer.save(tmp_path, 1, whole_share({}), {"config": {"network": NETWORK}})
    assert checkpoint.load(path)[1]["config"]["network"] == NETWORK
    assert not mark.exists()


def test_a_store_is_repaired_by_a_class_of_its_own_only_if_that_is_named(store: Path, mark: Path) -> None:
    advice = invoke("verify", store).output
    assert f"mend with: pelagos repair {store} --trust stranger:Analytic, if you know that code" in advice
    assert_refused(invoke("repair", store), mark, store / "_build" / "manifest.json")
    assert "1 file(s) built anew" in invoke("repair", store, "--trust", "stranger:Analytic").output
    assert mark.exists()


def training(folder: Path, **more: Any) -> Path:
    """A configuration of training in a folder, whose store is not there: its network would come first."""
    folder.mkdir(exist_ok=True)
    values = {
        "command": "pretrain",
        "output": str(folder / "out"),
        "network": NETWORK,
        "data": [{"path": str(folder / "no.zarr")}],
        "loop": {"steps": 1, "batch_size": 1, "micro_batch": 1},
        **more,
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.mark.parametrize("beside", ["run.json", "model.json", "zarr.json"])
def test_a_configuration_that_comes_with_a_run_does_not_speak_for_the_user(
    beside: str, mark: Path, tmp_path: Path
) -> None:
    file = training(tmp_path / "theirs")
    (file.parent / beside).write_text("{}")
    for command in ("pretrain", "check"):
        assert_refused(invoke(command, file), mark, file)
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: theirs/config.yaml\nseed: 3\n")
    assert_refused(invoke("pretrain", mine), mark, file)
    # Named, it is read, and what comes next is the store that is not there.
    for named in (["--trust", "stranger:Net"], ["network.path=stranger:Net"]):
        assert "no.zarr" in invoke("pretrain", mine, *named).output


def test_a_file_of_another_user_or_that_all_may_write_does_not_speak_for_the_user(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = training(tmp_path / "shared")
    file.chmod(0o666)
    assert_refused(invoke("pretrain", file), mark, file)
    file.chmod(0o644)
    monkeypatch.setattr(os, "getuid", lambda: file.stat().st_uid + 1)
    if file.stat().st_uid:  # root's files are everybody's
        assert_refused(invoke("pretrain", file), mark, file)


def test_the_path_alone_counts_too_where_files_are_merged(mark: Path, tmp_path: Path) -> None:
    file = training(tmp_path / "theirs", network={"path": "stranger:Net"})
    (file.parent / "run.json").write_text("{}")
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: theirs/config.yaml\nnetwork: {kind: external}\n")
    assert_refused(invoke("pretrain", mine), mark, file)


def test_checking_a_configuration_runs_nothing_of_it(mark: Path, tmp_path: Path) -> None:
    file = training(tmp_path / "mine")
    assert_refused(invoke("check", file), mark, "the configuration")
    assert "no.zarr does not exist yet" in invoke("check", file, "--trust", "stranger:Net").output


def test_a_configuration_of_ones_own_may_name_ones_own_class(mark: Path, tmp_path: Path) -> None:
    file = tmp_path / "build.yaml"
    config = configuration(tmp_path).model_dump(mode="json")
    config["source"]["path"] = "stranger:Analytic"
    file.write_text(yaml.safe_dump({"command": "build", **config}))
    result = invoke("build", file)
    assert result.exit_code == 0, result.output
    assert mark.exists()
