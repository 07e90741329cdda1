"""Mistakes that a user makes in each command's configuration, and the one message that each gives."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pelagos.models.context import Signature
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.variables import keys

STORE = "stores/waves/waves-1.zarr"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, its store, a model that knows it, and a configuration of each command."""
    folder = tmp_path_factory.mktemp("prepared")
    size = {"num_trajectories": 3, "shape": (8, 8), "num_frames": 4, "interval": 0.02}
    config = SimulateConfig.model_validate({"equation": {"kind": "wave"}, **size})
    well_writer.write(simulate(config), folder / "waves.hdf5")
    tracking = {"uri": "sqlite:///mlflow.db"}
    loop = {"steps": 2, "batch_size": 2, "micro_batch": 2}
    source = {"kind": "the_well", "paths": "waves.hdf5"}
    splits = {"kind": "trajectories", "test": 1}
    configurations: dict[str, dict[str, Any]] = {
        "simulate": {
            "simulation": {"equation": {"kind": "wave"}, **size},
            "format": "the_well",
            "output": "made.hdf5",
        },
        "build": {"dataset": "waves", "source": source, "splits": splits},
        "pretrain": {
            "output": "run",
            "network": {"kind": "unet"},
            "data": [{"path": STORE}],
            "loop": loop,
            "tracking": tracking,
            "threads": 1,
        },
        "finetune": {
            "output": "tuned",
            "model": "model",
            "data": {"path": STORE},
            "loop": loop,
            "tracking": tracking,
        },
        "evaluate": {"models": {"m": "model"}, "store": STORE, "output": "scores", "tracking": tracking},
        "forecast": {"model": "model", "store": STORE, "output": "forecast.zarr", "tracking": tracking},
        "register": {"model": "model", "name": "waves", "tracking": tracking},
    }
    for command, values in configurations.items():
        plain = json.loads(json.dumps({**values, "command": command}))
        (folder / f"{command}.yaml").write_text(yaml.safe_dump(plain))
    return folder


@pytest.fixture(scope="module")
def built(prepared: Path) -> Path:
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.chdir(prepared)
        result = CliRunner().invoke(app, ["build", "build.yaml"])
    assert result.exit_code == 0, result.output
    store = open_store(prepared / STORE)
    variables = store.variables
    signature = Signature(keys((*variables, *store.static_variables)), keys(variables), (), (8, 8))
    scales = {key: VariableScale(mean=0, std=1) for key in signature.inputs}
    domain = Domain(inputs=(*variables, *store.static_variables), outputs=variables, scales=scales)
    config = UNetConfig(kind="unet")
    Model(config, config.build(signature), signature, {"waves": domain}).save(prepared / "model")
    return prepared


@pytest.fixture
def folder(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(built)
    return built


def fails(arguments: list[str], code: int, *parts: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert "Traceback" not in result.output, result.output
    assert result.output.count("error: ") == 1, result.output
    assert result.exit_code == code, result.output
    for part in parts:
        assert part in result.output


@pytest.mark.parametrize(
    ("command", "change", "code", "message"),
    [
        ("simulate", "drop=[nothing]", 2, "drop: no variable 'nothing'; there are displacement"),
        ("simulate", "output=build.yaml/x.hdf5", 1, "build.yaml: File exists"),
        ("simulate", "simulation.equation.speed=9", 2, "speed: unknown key; did you mean 'wave_speed'?"),
        ("pretrain", "warmup=9", 2, "did you mean 'schedule.warmup' or 'guard.warmup'?\n"),
        ("build", "root=build.yaml", 2, "root: cannot create build.yaml/waves: Not a directory"),
        ("build", "variables=[]", 2, "variables: "),
        ("build", "variables=displacement", 2, "variables: Input should be a list (found 'displacement')"),
        ("build", "version=../up", 2, "version: Input should be a name of letters, digits, and dots"),
        ("build", "part=0/3", 2, "part: Input should be i/n, counted from 1, such as 2/16 (found '0/3')"),
        (
            "build",
            "scheduler=localhost:8786",
            2,
            "scheduler: Input should be an address such as tcp://host:8786",
        ),
        (
            "build",
            "splits.test=-1",
            2,
            "1 error(s):\n  splits.test: Input should be greater than or equal to 0",
        ),
        ("build", "source.paths=[]", 2, "source.paths: "),
        ("build", "source.paths=*.nc", 1, "*.nc"),
        ("build", "convert.displacement=[1]", 2, "convert.displacement: Input should be a mapping of keys"),
        ("build", "regrid={shape: [4, 4], y: [1]}", 2, "regrid: give either shape, or both y and x"),
        ("build", "convert={displacement: K}", 2, "'1' (1) and 'K' (K) measure different things"),
        ("build", "convert={displacement: parsec}", 2, "units 'parsec': 'parsec' is not a known unit"),
        ("build", "subset={x: [7, 9]}", 2, "subset.x: no point lies within [7.0, 9.0]; the grid reaches"),
        (
            "build",
            "regrid={method: cubic, shape: [4, 4]}",
            2,
            "regrid.method: Input should be 'conservative', 'bilinear', 'linear' or",
        ),
        ("pretrain", "data.0.time_scale=0", 2, "1 error(s):\n  data.0.time_scale: Input should be greater"),
        ("pretrain", "output=build.yaml", 1, "build.yaml: File exists"),
        ("pretrain", "tracking.uri=nonsense://x", 2, "tracking.uri: MLflow takes sqlite:///FILE"),
        ("finetune", "model=nowhere", 1, "no model folder nowhere"),
        ("evaluate", "output=build.yaml", 1, "build.yaml: File exists"),
        ("forecast", "output=build.yaml/x", 1, "build.yaml: File exists"),
        ("forecast", "starts.stride=9", 1, "no forecast of 1 steps of 9 frames"),
        ("register", "name=a/b", 2, "name: a model's name must have none of / : @ (found 'a/b')"),
        ("register", "alias=v1", 2, "alias: an alias has letters, digits"),
        ("register", "alias=latest", 2, "alias: an alias has letters, digits"),
        ("register", "model=models:/waves@best", 2, "model: only the folder of a model can be registered"),
        ("register", "tracking.uri=mlruns", 2, "tracking.uri: MLflow takes sqlite:///FILE"),
    ],
)
def test_a_mistake_has_one_message(folder: Path, command: str, change: str, code: int, message: str) -> None:
    version = ["version=other"] if command == "build" and not change.startswith("version") else []
    fails([command, f"{command}.yaml", change, *version], code, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00\x80", "wrong.yaml is not valid YAML"),
        (b"extends: wrong.yaml\n", "extends itself"),
        (b"extends: 3\n", "extends must name one file, not 3"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "wrong.yaml").write_bytes(content)
    fails(["build", "wrong.yaml"], 2, message)


def test_a_folder_is_no_configuration(folder: Path) -> None:
    fails(["build", "."], 1, "no configuration .: neither a file nor one that is shipped")


def test_a_number_is_a_version(folder: Path) -> None:
    assert CliRunner().invoke(app, ["build", "build.yaml", "version=2"]).exit_code == 0
    assert (folder / "stores/waves/waves-2.zarr").is_dir()


def test_a_scheduler_that_does_not_answer_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.workers._PATIENCE", 0.2)
    fails(
        ["build", "build.yaml", "scheduler=tcp://127.0.0.1:1", "version=nobody"],
        2,
        "scheduler: no answer from tcp://127.0.0.1:1",
    )


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_model_is_named(folder: Path, content: str) -> None:
    shutil.copytree(folder / "model", folder / "damaged", dirs_exist_ok=True)
    (folder / "damaged/model.json").write_text(content)
    fails(["finetune", "finetune.yaml", "model=damaged"], 1, "damaged/model.json")


def test_a_lost_manifest_is_not_said_to_be_mendable(folder: Path) -> None:
    shutil.copytree(folder / STORE, folder / "lost.zarr", dirs_exist_ok=True)
    (folder / "lost.zarr/_build/manifest.json").unlink()
    fails(["verify", "lost.zarr"], 1, "_build/manifest.json", "build it again with overwrite=true")


def test_a_run_that_failed_at_once_leaves_its_folder_free(folder: Path) -> None:
    fails(["pretrain", "pretrain.yaml", "output=free", "loop.batch_size=3"], 1, "batch_size 3")
    # Another configuration may have the folder now, and fails for its own reason.
    fails(["pretrain", "pretrain.yaml", "output=free", "loop.batch_size=5"], 1, "batch_size 5")
    (folder / "free/metrics.jsonl").touch()
    fails(
        ["pretrain", "pretrain.yaml", "output=free", "loop.batch_size=3"], 2, "a run of another configuration"
    )


def test_a_reader_that_has_enough_is_no_error(folder: Path) -> None:
    script = f"{sys.executable} -m pelagos.pipeline inspect {STORE} | true"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert result.stderr == ""


def test_commands_need_no_standard_error(folder: Path) -> None:
    script = f"{sys.executable} -m pelagos.pipeline inspect {STORE} 2>&-"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (result.returncode, "trajectories" in result.stdout) == (0, True)


def test_a_process_that_the_system_kills_says_where_it_was(folder: Path) -> None:
    program = (
        "import os, signal, sys; from pelagos.pipeline import cli; "
        "cli.app = lambda: os.kill(os.getpid(), signal.SIGBUS); cli.main()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == -signal.SIGBUS
    assert "Bus error" in result.stderr
    assert "in main" in result.stderr


@pytest.mark.parametrize("command", ["verify", "repair", "init", "plot"])
def test_what_is_no_store_is_sent_to_inspect(tmp_path: Path, command: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text("{}")
    message = f"{tmp_path / 'model'} is no store; pelagos inspect {tmp_path / 'model'} says what it is"
    fails([command, str(tmp_path / "model")], 1, message)
