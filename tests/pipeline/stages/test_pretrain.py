"""Pretraining: it learns, stops when it is told to, and does not depend on how it was launched."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.tracking.tracker import TrackingConfig, read_metrics
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import StoppedError
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.manifest import read_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of travelling waves and a configuration that trains on it."""
    path = tmp_path_factory.mktemp("pretrain")
    equation = {"kind": "wave"}
    config = SimulateConfig(
        equation=equation, num_trajectories=8, shape=(16, 16), num_frames=8, interval=0.02
    )
    well_writer.write(simulate(config), path / "waves.hdf5")
    values = {
        "dataset": "waves",
        "source": {"kind": "the_well", "paths": str(path / "waves.hdf5")},
        "root": str(path / "stores"),
        "splits": {"kind": "trajectories", "valid": 2},
    }
    store = build(BuildConfig.model_validate(values))
    sizes = {
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "skip_connections": [1, 0],
        "window_size": 4,
    }
    training = {
        "command": "pretrain",
        "output": str(path / "run"),
        "network": {"kind": "scot", "patch_size": 2, **sizes},
        "data": [{"path": str(store)}],
        "loop": {"steps": 40, "batch_size": 8, "micro_batch": 4, "checkpoint_every": 5, "validate_every": 10},
        "optimizer": {"lr": 2e-3},
        "tracking": {"uri": f"sqlite:///{path}/mlflow.db"},
        "threads": 1,
    }
    (path / "train.yaml").write_text(yaml.safe_dump(training))
    return path


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pelagos.pipeline", "pretrain", str(folder / "train.yaml"), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def train(folder: Path, name: str, *arguments: str) -> Path:
    process = start(folder, f"output={folder / name}", *arguments)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return folder / name


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Path:
    """A run of one process, from the first step to the last."""
    return train(folder, "undisturbed")


def test_losses_fall_and_validation_is_reported(undisturbed: Path) -> None:
    held_out = {
        record["step"]: record["valid/waves"]
        for record in read_metrics(undisturbed)
        if "valid/waves" in record
    }
    assert list(held_out) == [10, 20, 30, 40]
    assert list(held_out.values()) == sorted(held_out.values(), reverse=True)


def test_the_model_knows_its_data(undisturbed: Path) -> None:
    loaded = model_folder.load(undisturbed / "model")
    domain = loaded.domain("waves")
    assert [variable.key for variable in domain.inputs] == ["displacement", "displacement_rate", "wave_speed"]
    assert set(domain.scales) == {"displacement", "displacement_rate", "wave_speed"}
    assert domain.time_scale == pytest.approx(0.02)


def test_the_store_is_a_dataset_of_the_run_in_mlflow(folder: Path, undisturbed: Path) -> None:
    client = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db").client()
    logged = client.get_run((undisturbed / "mlflow_run").read_text()).inputs.dataset_inputs
    [store] = yaml.safe_load((folder / "train.yaml").read_text())["data"]
    digest = read_manifest(Path(store["path"])).checksum
    assert [(one.dataset.source, one.dataset.digest) for one in logged] == [(store["path"], digest[:36])]
    assert [tag.value for one in logged for tag in one.tags] == ["training"]


@pytest.mark.parametrize(("processes", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_run_that_is_told_to_stop_keeps_its_step_and_goes_on(
    folder: Path, undisturbed: Path, processes: int, number: signal.Signals
) -> None:
    name = f"told-{processes}"
    arguments = (f"output={folder / name}", "loop.checkpoint_every=0", "--processes", str(processes))
    process = start(folder, *arguments)
    while len(read_metrics(folder / name)) < 1:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    os.killpg(process.pid, number)
    while process.poll() is None:  # it is told again and again, until it has left
        time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == StoppedError.exit_code, output
    found = re.search(rf"(?:{number.name}|another process): stopped after step (\d+), kept in", output)
    assert found, output
    step = int(found[1])
    assert 10 <= step < 40
    assert "the same command continues" in output
    assert "Traceback" not in output
    newest = checkpoint.latest(folder / name / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{step:08d}"
    if processes == 1:
        resumed = weights(train(folder, name, *arguments[1:]))
        assert all(torch.equal(resumed[name], tensor) for name, tensor in weights(undisturbed).items())


def test_two_processes_reach_the_weights_of_one(folder: Path, undisturbed: Path) -> None:
    shared = weights(train(folder, "shared", "--processes", "2"))
    for name, tensor in weights(undisturbed).items():
        # Sums in another order, amplified by 40 steps of AdamW.
        torch.testing.assert_close(shared[name], tensor, rtol=2e-2, atol=2e-3)


def test_a_folder_with_another_run_is_refused(folder: Path, undisturbed: Path) -> None:
    process = start(folder, f"output={undisturbed}", "seed=5")
    output, _ = process.communicate()
    assert process.returncode == 2
    assert "holds a run of another configuration" in output
    assert "Traceback" not in output


def test_a_batch_that_cannot_be_dealt_is_refused(folder: Path) -> None:
    process = start(folder, f"output={folder / 'uneven'}", "--processes", "2", "loop.micro_batch=8")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "cannot be dealt to 2" in output
    assert "Traceback" not in output
