"""Inspect: whatever lies at a path is told, to people and to programs, and what cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from pelagos.pipeline.cli import app
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert "Traceback" not in result.output, result.output
    return result


def told(*arguments: object) -> dict[str, Any]:
    result = invoke("inspect", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def shown(*arguments: object) -> str:
    result = invoke("inspect", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, waves: Path) -> Path:
    """A finished run of four steps, and forecasts of its model beside it."""
    folder = tmp_path_factory.mktemp("inspected")
    values = {
        "command": "pretrain",
        "output": str(folder / "run"),
        "network": {"kind": "unet", "dims": [4, 8]},
        "data": [{"path": str(waves)}],
        "loop": {"steps": 4, "batch_size": 4, "micro_batch": 4, "checkpoint_every": 2, "log_every": 2},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())
        assert invoke("pretrain", folder / "train.yaml").exit_code == 0
    forecast = {
        "command": "forecast",
        "model": str(folder / "run/model"),
        "store": str(waves),
        "output": str(folder / "forecast.zarr"),
        "starts": {"split": "valid", "steps": 3},
    }
    (folder / "forecast.yaml").write_text(yaml.safe_dump(forecast))
    assert invoke("forecast", folder / "forecast.yaml").exit_code == 0
    return folder / "run"


def test_a_model_tells_its_network_data_and_history(run: Path) -> None:
    known = told(run / "model")
    assert (known["type"], known["network"]["kind"], list(known["domains"])) == ("model", "unet", ["waves"])
    assert list(known["history"]) == ["pretrained"]
    text = shown(run / "model")
    assert f"network     unet, {known['weights']} weights" in text
    assert "dataset waves" in text
    assert "grid      cartesian, 8 x 8" in text


def test_a_damaged_model_is_not_described(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in (run / "model").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    text = (copy / "model.json").read_text()
    (copy / "model.json").write_text(text.replace("waves", "wives"))
    result = invoke("inspect", copy)
    assert result.exit_code == 1
    assert "model.json" in result.output


def test_a_run_tells_how_far_it_came(run: Path) -> None:
    known = told(run)
    assert (known["type"], known["command"], known["steps"]) == ("run", "pretrain", 4)
    assert known["checkpoints"] == [2, 4]
    assert known["finished"]
    [name] = known["inputs"]
    assert f"began with  {name}, checksum {known['inputs'][name]['checksum'][:12]}" in shown(run)
    assert told(run / "checkpoints") == known


def test_a_checkpoint_is_verified_and_told(run: Path) -> None:
    known = told(run / "checkpoints/step-00000002")
    assert (known["type"], known["step"], known["samples"]) == ("checkpoint", 2, 8)
    assert {"weights", "moments", "average"} <= set(known["holds"])


def test_a_forecast_tells_its_samples_and_lead_times(run: Path) -> None:
    known = told(run.parent / "forecast.zarr")
    assert (known["type"], known["lead_times"]["number"], known["shape"]) == ("forecast", 3, [8, 8])
    assert known["samples"]["trajectory"] == 2
    assert "lead times  3 from 0.02 to 0.06" in shown(run.parent / "forecast.zarr")


def test_a_store_is_told_in_numbers(waves: Path) -> None:
    known = told(waves)
    assert (known["type"], known["trajectories"], known["frames"]) == ("store", 8, 6)
    assert known["splits"]["valid"] == {"trajectories": 2, "frames": 12}
    assert {one["role"] for one in known["variables"]} >= {"prognostic"}
    assert all(one["minimum"] <= one["mean"] <= one["maximum"] for one in known["variables"])


def test_an_archive_takes_what_it_does_not_say(tmp_path: Path) -> None:
    file = tmp_path / "wave.npy"
    np.save(file, np.random.default_rng(0).normal(size=(4, 5, 1, 8, 8)).astype("f4"))
    asked = told(file)
    assert {"dt", "length"} <= set(asked["ask"])
    answers: tuple[str, ...] = ("source.dt=0.1", "source.length=2.0")
    answers += tuple(f"source.{key}=[u]" for key in asked["ask"] if key == "variables")
    known = told(file, *answers, "splits.valid=2")
    assert known["ask"] == {}
    assert known["configuration"]["splits"] == {"kind": "trajectories", "valid": 2, "test": 1}
    assert told(file, "splits.valid=2")["configuration"]["splits"] == {"valid": 2}
    assert known["configuration"]["source"]["dt"] == 0.1


def test_what_takes_no_values_or_not_these_says_so(waves: Path, tmp_path: Path) -> None:
    assert "is a store; KEY=VALUE, such as source.dt=1" in invoke("inspect", waves, "source.dt=1").output
    file = tmp_path / "wave.npy"
    np.save(file, np.zeros((4, 5, 1, 8, 8), "f4"))
    result = invoke(
        "inspect", file, "source.dt=1", "source.length=1", "source.variables=[u]", "source.lenght=2"
    )
    assert result.exit_code == 2
    assert "did you mean 'length'?" in result.output
