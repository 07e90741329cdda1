"""Check: what a run would meet is said before it is begun, and nothing of its folder is touched."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from pelagos.pipeline.cli import app
from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

ROLLOUTS = {"kind": "rollouts", "steps": 3, "curriculum": [[0, 1], [2, 2], [100, 3]]}
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


def store(folder: Path, name: str, shape: tuple[int, int], constant: str = "") -> str:
    size = {"num_trajectories": 5, "shape": shape, "num_frames": 6, "interval": 0.02}
    ds = simulate(SimulateConfig.model_validate({"equation": {"kind": "wave"}, **size}))
    if constant:
        ds[constant] = xr.ones_like(ds[constant])
    well_writer.write(ds, folder / f"{name}.hdf5")
    values = {
        "dataset": name,
        "source": {"kind": "the_well", "paths": str(folder / f"{name}.hdf5")},
        "root": str(folder / "stores"),
        "splits": {"kind": "trajectories", "valid": 1},
    }
    return str(build(BuildConfig.model_validate(values)))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of two grids, and a configuration that trains on both, with rollouts on the larger."""
    folder = tmp_path_factory.mktemp("check")
    stores = {"small": store(folder, "small", (8, 8)), "large": store(folder, "large", (12, 16))}
    values: dict[str, Any] = {
        "command": "pretrain",
        "output": "run",
        "network": {"kind": "unet", "dims": [16, 32]},
        "data": [{"path": stores["small"]}, {"path": stores["large"], "sampling": ROLLOUTS}],
        "loop": {"steps": 4, "batch_size": 8, "micro_batch": 2},
        "tracking": {"uri": "sqlite:///mlflow.db"},
        "threads": 1,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture
def folder(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(prepared)
    return prepared


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert "Traceback" not in result.output, result.output
    return result


def checked(*arguments: str) -> str:
    result = invoke("check", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def train(folder: Path, name: str, *overrides: str) -> Path:
    """A finished run of the configuration, of which MLflow hears nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())
        result = invoke("pretrain", "train.yaml", f"output={name}", *overrides)
    assert result.exit_code == 0, result.output
    return folder / name


def size_of_checkpoint(run: Path) -> int:
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    return sum(file.stat().st_size for file in newest.iterdir())


def told_size(output: str) -> float:
    found = re.search(r"checkpoint: (\S+) (\wB)", output)
    assert found, output
    size, unit = found.groups()
    return float(size) * UNITS[unit]


@pytest.fixture
def trained(folder: Path) -> Path:
    return train(folder, "trained")


def test_a_run_is_described_behind_its_configuration(folder: Path) -> None:
    output = checked("train.yaml", "--processes", "2")
    assert yaml.safe_load(output)["loop"]["micro_batch"] == 2
    # Four trajectories of six frames: fifteen pairs each; three windows of four frames.
    assert re.search(
        r"small-1.zarr: 60 samples in its split train, 60 an epoch, 8 x 8, 3 channels in", output
    )
    assert re.search(r"large-1.zarr: 12 samples in its split train, 12 an epoch, 12 x 16", output)
    assert "8 samples per optimiser step, in micro-batches of 2: 2 on each of 2 process(es)" in output
    assert "epoch: 72 samples, 9.0 steps; the run's 4 steps are 0.44 epochs" in output
    assert float(found(r"arithmetic: (\S+) floating-point", output)) > 0
    groups = re.findall(r"optimizer: body, .*, weight decay (\S+): (\d+) parameters in \d+ tensors", output)
    assert sorted(decay for decay, _ in groups) == ["0", "0.01"]
    assert sum(int(number) for _, number in groups) <= int(found(r"network: (\d+) parameters", output))
    assert not (folder / "run").exists()


def test_the_same_is_told_to_programs_in_numbers(folder: Path) -> None:
    told = json.loads(checked("train.yaml", "--json"))
    assert told["configuration"]["loop"]["batch_size"] == 8
    by_what = {one["about"]: one for one in told["findings"]}
    assert by_what["epoch"]["samples"] == 72
    assert by_what["batch"] == {**by_what["batch"], "micro_batches": 4, "processes": 1}
    assert by_what["network"]["text"] == f"{by_what['network']['parameters']} parameters"
    assert told["warnings"] == [one["text"] for one in told["findings"] if one["about"] == "WARNING"]


def test_what_may_spoil_training_is_told(folder: Path) -> None:
    still = store(folder, "still", (8, 8), constant="displacement")
    line = "# data: still: displacement is constant in all that trains"
    alone = f"data=[{{path: {still}}}]"
    assert f"{line}: relative losses leave it out\n" in checked("train.yaml", alone)
    # With its motion in other data for a scale, 1 is no longer 0, and an error relative to it means something.
    for output in (
        checked("train.yaml", f"data.0.path={still}"),
        checked("train.yaml", alone, "loss.kind=mse"),
    ):
        assert f"{line}\n" in output


def test_a_store_that_does_not_exist_yet_is_a_note(folder: Path) -> None:
    output = checked("train.yaml", "data.1.path=stores/later.zarr")
    assert "# note: the store stores/later.zarr does not exist yet" in output
    assert "60 samples" in output
    assert "# network: " in output


def test_a_step_cannot_be_taken_without_a_store(folder: Path) -> None:
    result = invoke("check", "train.yaml", "data.1.path=stores/later.zarr", "--deep")
    assert result.exit_code == 1
    assert "error: the store stores/later.zarr does not exist yet" in result.output


def test_a_batch_that_cannot_be_dealt_is_an_error(folder: Path) -> None:
    result = invoke("check", "train.yaml", "--processes", "3")
    assert result.exit_code == 1
    assert "error: batch_size 8 in micro-batches of 2 cannot be dealt to 3 process(es)" in result.output
    result = invoke("check", "train.yaml", "--gpus", "6", "engine.domain=2")
    assert "cannot be dealt to 3 group(s) of 2 processes (engine.domain)" in result.output


def test_a_run_that_would_train_nothing_is_refused(folder: Path) -> None:
    result = invoke("check", "train.yaml", "optimizer.parts={'*': frozen}")
    assert result.exit_code == 2
    assert "optimizer.parts: all weights are frozen; leave at least one part to train" in result.output


def test_matrices_that_processes_would_cut_are_an_error(folder: Path) -> None:
    result = invoke("check", "train.yaml", "optimizer.matrices=muon", "--processes", "2")
    assert result.exit_code == 2
    assert "error: engine.zero_stage: 1 cuts matrices into parts for 2 processes" in result.output


def test_a_grid_that_does_not_fit_is_named(folder: Path) -> None:
    sizes = "embed_dim: 8, depths: [1, 1], num_heads: [2, 2], skip_connections: [1, 0], window_size: 4"
    network = f"network={{kind: scot, preset: poseidon, patch_size: 2, {sizes}}}"
    result = invoke("check", "train.yaml", network)
    assert result.exit_code == 1
    assert re.search(
        r"error: dataset large \(\S*large-1.zarr\): the network cannot take its grid of 12 x 16",
        result.output,
    )
    assert "60 samples" in checked("train.yaml", network, "data.1.path=stores/later.zarr")


def test_a_network_that_looks_at_values_can_be_checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from torch import nn
class Curious(nn.Conv2d):
    def __init__(self, signature):
        super().__init__(len(signature.inputs), len(signature.outputs), 3, padding=1)
    def forward(self, x, lead_time, context):
        return super().forward(x) * (1 if float(x.sum()) else 2)
"""
    (folder / "curious_network.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    output = checked("train.yaml", "network={kind: external, path: 'curious_network:Curious'}")
    assert f"network: {3 * 2 * 9 + 2} parameters" in output


def test_mistakes_that_a_run_meets_late_are_found(folder: Path) -> None:
    result = invoke("check", "train.yaml", "loop.validation_rollout=6")
    assert result.exit_code == 2, result.output
    assert "split valid" in result.output


def test_two_steps_tell_what_a_run_takes(folder: Path, trained: Path) -> None:
    output = checked("train.yaml", "--deep")
    assert "worst case: dataset large, 12 x 16, 2 forecast step(s) of 2 samples" in output
    assert float(found(r"step time: (\S+) s", output)) > 0
    assert float(found(r"peak memory: (\S+) [MG]B", output)) > 0
    assert re.search(r"wall time: about \d+:\d\d:\d\d for 4 steps .*, \d+:\d\d:\d\d if every step", output)
    assert told_size(output) == pytest.approx(size_of_checkpoint(trained), rel=0.01)
    weights = load_file(trained / "model" / "weights.safetensors")
    assert int(found(r"network: (\d+) parameters", output)) == sum(
        map(len, (w.ravel() for w in weights.values()))
    )
    assert not (folder / "run").exists()
    assert not (folder / "mlflow.db").exists()


def test_the_best_weights_are_part_of_a_checkpoint(folder: Path) -> None:
    best = ("loop.validate_every=2", "loop.kept=best")
    run = train(folder, "best", *best)
    assert told_size(checked("train.yaml", "--deep", *best)) == pytest.approx(
        size_of_checkpoint(run), rel=0.01
    )


def test_the_share_of_one_of_many_processes_is_rehearsed(folder: Path) -> None:
    output = checked("train.yaml", "--deep", "--processes", "4")
    assert "1 on each of 4 process(es)" in output
    assert "one process did the share of one of 4" in output


def test_an_adaptation_is_checked_once_its_model_exists(folder: Path, trained: Path) -> None:
    values = yaml.safe_load((folder / "train.yaml").read_text())
    del values["network"]
    values |= {"command": "finetune", "model": "nowhere", "data": values["data"][0]}
    (folder / "tune.yaml").write_text(yaml.safe_dump(values))
    output = checked("tune.yaml")
    assert "# note: no model folder nowhere" in output
    assert "# network" not in output
    output = checked("tune.yaml", f"model={trained / 'model'}", "--deep")
    assert "worst case: dataset small" in output
    assert not (folder / "run").exists()


def test_only_training_takes_steps(folder: Path) -> None:
    values = {"command": "register", "model": "model", "name": "waves"}
    (folder / "register.yaml").write_text(yaml.safe_dump(values))
    result = invoke("check", "register.yaml", "--deep")
    assert result.exit_code == 2
    assert "--deep takes steps of training; register.yaml is for register" in result.output


def test_steps_on_shared_samples_need_those_who_share_them(folder: Path) -> None:
    result = invoke("check", "train.yaml", "--deep", "engine.domain=2")
    assert result.exit_code == 2
    assert "torchrun --nproc-per-node 2 -m pelagos.pipeline check --deep" in " ".join(result.output.split())


def test_samples_that_processes_share_are_checked_by_one_process(folder: Path) -> None:
    overrides = ("engine.domain=2", "engine.shared=members", "loss.kind=crps")
    for arguments in ((), ("--processes", "4"), ("--gpus", "4")):
        text = checked("train.yaml", *overrides, *arguments)
        assert "# network: " in text
        groups, each = (2, 2) if arguments else (1, 4)
        assert f": {each} on each of {groups} group(s) of 2 processes (engine.domain)" in text
    result = invoke("check", "train.yaml", *overrides, "loss.members=3")
    assert result.exit_code == 2
    assert "2 processes cannot make the same number of 3 members" in result.output
    result = invoke("check", "train.yaml", "engine.domain=2", "loss.octaves=0.3")
    assert result.exit_code == 2
    assert "loss.octaves need all rows of a sample" in result.output


def test_gpus_that_are_not_there_are_told_of(folder: Path) -> None:
    output = checked("train.yaml", "--gpus", "4", "--memory", "40", "--deep", "--json")
    found = json.loads(output[output.index("{") :])["findings"]  # behind the progress of two steps
    numbers = {one["about"]: one for one in found}
    stages = [one for one in found if one["about"] == "GPU memory"]
    assert [one["zero_stage"] for one in stages] == [0, 1, 2, 3]
    parameters = numbers["network"]["parameters"]
    assert [one["weights"] / (4 * parameters) for one in stages] == [1, 1, 1, 0.25]
    assert {"activations", "step estimate", "files", "setting", "assumed"} <= set(numbers)
    kept = numbers["activations"]
    # Weights and gradients are no activations, whatever the samples.
    assert kept["bytes"] - kept["micro_batch"] * kept["bytes_per_sample"] < 2 * parameters
    estimated, written = (numbers[about]["bytes"] for about in ("checkpoint estimate", "checkpoint"))
    # Headers and the map of tensors weigh something beside so few weights.
    assert estimated < written < 1.15 * estimated


def test_gpus_are_for_training(folder: Path) -> None:
    (folder / "evaluate.yaml").write_text("command: evaluate\noutput: scores\n")
    result = invoke("check", "evaluate.yaml", "--gpus", "4")
    assert result.exit_code == 2
