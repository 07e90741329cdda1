"""Run extension: more steps end where a longer run would have, or are refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from pelagos.pipeline.cli import app
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig

CONSTANT = "schedule={kind: constant, warmup: 2}"


@pytest.fixture
def train(tmp_path: Path, waves: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Begins or continues a run of some steps, of which MLflow hears nothing."""
    monkeypatch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())
    values = {
        "command": "pretrain",
        "output": "given for each run",
        "network": {"kind": "unet", "dims": [4, 8], "depth": 1},
        "data": [{"path": str(waves), "sampling": {"kind": "pairs", "max_lead": 2}}],
        "loop": {"steps": 1, "batch_size": 8, "micro_batch": 4, "validation_samples": 4},
        "threads": 1,
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))

    def run(name: str, steps: int, *overrides: str) -> Result:
        config = (str(tmp_path / "train.yaml"), f"output={tmp_path / name}", f"loop.steps={steps}")
        result = CliRunner().invoke(app, ["pretrain", *config, *overrides])
        assert "Traceback" not in result.output, result.output
        return result

    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


@pytest.mark.parametrize(
    "schedule", [CONSTANT, "schedule={kind: restarts, period: 3, warmup: 1}"], ids=["constant", "restarts"]
)
def test_an_extended_run_is_what_one_of_all_the_steps_is(tmp_path: Path, train: Any, schedule: str) -> None:
    choice = ("loop.kept=best", "loop.validate_every=2")
    for steps in (4, 6):
        result = train("extended", steps, schedule, *choice)
        assert result.exit_code == 0
        assert "nothing was left to do" not in result.output
    assert train("whole", 6, schedule, *choice).exit_code == 0
    once, twice = weights(tmp_path / "whole"), weights(tmp_path / "extended")
    assert all(torch.equal(once[name], twice[name]) for name in once)
    record = json.loads((tmp_path / "extended/run.json").read_text())
    assert (record["steps"], record["extended"]) == (6, [4])
    assert yaml.safe_load((tmp_path / "extended/config.yaml").read_text())["loop"]["steps"] == 6
    # It has finished anew, and can be extended once more.
    assert "nothing was left to do" in train("extended", 6, schedule, *choice).output
    assert train("extended", 8, schedule, *choice).exit_code == 0


@pytest.mark.parametrize(
    ("overrides", "steps", "reason"),
    [
        (
            ("schedule.kind=cosine",),
            6,
            "schedule.kind: cosine over 4 steps, and would have been another over 6",
        ),
        ((CONSTANT,), 2, "a run cannot be made shorter"),
        ((CONSTANT, "loop.kept=best", "loop.validate_every=3"), 6, "best weights may be those of step 4"),
    ],
)
def test_what_would_be_another_run_is_refused(
    tmp_path: Path, train: Any, overrides: tuple[str, ...], steps: int, reason: str
) -> None:
    assert train("run", 4, *overrides).exit_code == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.json")}
    refused = train("run", steps, *overrides)
    assert refused.exit_code == 2
    assert reason in refused.output
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").glob("*.json")} == before


def test_another_configuration_is_no_extension(train: Any) -> None:
    # Of a class of the user's own: what the run's folder says of it is looked at, and imports nothing.
    network = "network={kind: external, path: 'stochastic:Stochastic'}"
    assert train("run", 2, CONSTANT, network).exit_code == 0
    refused = train("run", 4, CONSTANT, network, "seed=3")
    assert refused.exit_code == 2
    assert "holds a run of another configuration" in refused.output


def test_an_extension_that_was_killed_can_be_begun_again(tmp_path: Path, train: Any) -> None:
    assert train("run", 2, CONSTANT).exit_code == 0
    # As after the second of its writes: the run is no longer finished, and no file speaks of more steps yet.
    (tmp_path / "run/done.json").unlink()
    assert train("run", 4, CONSTANT).exit_code == 0
    assert train("whole", 4, CONSTANT).exit_code == 0
    assert all(
        torch.equal(one, weights(tmp_path / "run")[name]) for name, one in weights(tmp_path / "whole").items()
    )
