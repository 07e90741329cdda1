"""Init: whatever the store, the configurations that are written pass the check."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from pelagos.pipeline.cli import app
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build


def noise(folder: Path, shape: tuple[int, int]) -> Path:
    """A store of noise on a grid, or on a line."""
    folder.mkdir()
    space = shape if shape[0] > 1 else shape[1:]
    values = np.random.default_rng(0).normal(size=(4, 3, 1, *space)).astype("f4")
    np.save(folder / "noise.npy", values)
    source = {"kind": "apebench", "paths": str(folder / "noise.npy"), "dt": 0.1, "length": 1.0}
    splits = {"kind": "trajectories", "valid": 1, "test": 1}
    build_values = {"dataset": "noise", "source": source, "root": str(folder), "splits": splits}
    return build(BuildConfig.model_validate(build_values))


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert "Traceback" not in result.output, result.output
    return result


def written(store: Path, folder: Path, *options: object) -> dict[str, dict[str, Any]]:
    """The configurations that are written, by their command, once `check` has accepted them."""
    result = invoke("init", store, "--folder", folder, *options)
    assert result.exit_code == 0, result.output
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        assert f"wrote {file}" in result.output
        checked = invoke("check", file, "--json")
        assert checked.exit_code == 0, checked.output
        values = yaml.safe_load(file.read_text())
        found[values["command"]] = {**values, "found": json.loads(checked.stdout)}
    return found


def test_a_store_gets_a_pretraining_and_an_evaluation(tmp_path: Path, waves: Path) -> None:
    made = written(waves, tmp_path)
    assert set(made) == {"pretrain", "evaluate"}
    train = made["pretrain"]
    # Six trajectories of six frames, all pairs: what is told is what the samples are.
    [data] = [one for one in train["found"]["findings"] if one["about"] == "data" and "samples" in one]
    text = (tmp_path / "waves-pretrain.yaml").read_text()
    assert f"epochs of {data['samples']} samples" in text
    assert train["data"][0]["sampling"]["max_lead"] == 5
    assert train["data"][0]["time_scale"] == pytest.approx(0.1)
    assert train["loop"]["validate_every"] > 0
    # Two held-out trajectories of six frames: from every frame that leaves room.
    assert made["evaluate"]["starts"] == {"split": "valid", "every": 1, "steps": 2}
    assert "the store has no test split" in (tmp_path / "waves-evaluate.yaml").read_text()


@pytest.mark.parametrize(
    ("shape", "patch", "window"), [((64, 64), 4, 16), ((48, 96), 4, 12), ((30, 30), 2, 15), ((1, 64), 4, 16)]
)
def test_patches_and_windows_fit_the_grid(
    tmp_path: Path, shape: tuple[int, int], patch: int, window: int
) -> None:
    network = written(noise(tmp_path / "store", shape), tmp_path)["pretrain"]["network"]
    assert (network["patch_size"], network["window_size"]) == (patch, window)
    levels = len(network["depths"])
    assert len(network["num_heads"]) == len(network["skip_connections"]) == levels


def test_a_model_is_adapted_and_what_is_new_to_it_is_said(tmp_path: Path, waves: Path) -> None:
    overrides = ["network={kind: unet, dims: [4, 8]}", "loop={steps: 1, batch_size: 4, micro_batch: 4}"]
    overrides += [f"output={tmp_path / 'run'}", f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"]
    written(waves, tmp_path / "first")
    assert invoke("pretrain", tmp_path / "first/waves-pretrain.yaml", *overrides).exit_code == 0
    made = written(waves, tmp_path / "second", "--model", tmp_path / "run/model")
    assert set(made) == {"pretrain", "finetune", "evaluate"}
    assert made["finetune"]["model"] == str(tmp_path / "run/model")
    assert "it knows all variables" in (tmp_path / "second/waves-finetune.yaml").read_text()
    assert set(made["evaluate"]["models"]) == {"pretrained", "finetuned"}


def test_nothing_is_overwritten_unless_asked(tmp_path: Path, waves: Path) -> None:
    written(waves, tmp_path)
    file = tmp_path / "waves-pretrain.yaml"
    file.write_text("mine")
    refused = invoke("init", waves, "--folder", tmp_path)
    assert refused.exit_code == 2
    assert file.read_text() == "mine"
    written(waves, tmp_path, "--overwrite")
    assert file.read_text() != "mine"


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    result = invoke("init", tmp_path / "nothing.zarr")
    assert result.exit_code == 1
    assert "no such store" in result.output
