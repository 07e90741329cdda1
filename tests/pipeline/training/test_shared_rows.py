"""Processes that share samples train as one process does."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import small_runs
import torch
import yaml
from pydantic import ValidationError
from torch import nn
from typer.testing import CliRunner

from pelagos.pipeline.cli import app, run_stage
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.stages.pretrain import PretrainStage
from pelagos.pipeline.training.ledger import read_ledger
from pelagos.pipeline.training.shared_rows import shared_units
from pelagos.preprocessing.errors import ConfigError

STEPS = 4
SCOT: dict[str, Any] = {
    "kind": "scot",
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "skip_connections": [1, 0],
    "window_size": 2,
    "patch_size": 1,
    "position_bias_dim": 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of waves on 8 x 8 points, and a configuration with rollouts, noise and augmentation."""
    path = tmp_path_factory.mktemp("shared")
    small_runs.prepare(path, STEPS)
    file = path / "train.yaml"
    values = yaml.safe_load(file.read_text())
    values["network"] = SCOT
    values["data"][0]["sampling"] = {"kind": "rollouts", "steps": 2}
    values["objective"] = {"noise": 0.1}
    # AdamW would enlarge the rounding of gradients that are almost zero.
    values["optimizer"] = {"lr": 1e-2, "eps": 1e-2}
    # A schedule whose rates do not depend on the last step, so that the run can be given more steps.
    values["schedule"] = {"kind": "constant"}
    values["loop"] |= {"batch_size": 4, "micro_batch": 2, "validate_every": 2}
    file.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    return small_runs.finish(folder, "alone", 1)


def assert_as_alone(run: Path, alone: Path) -> None:
    mine, wanted = small_runs.losses(run), small_runs.losses(alone)
    assert sorted(mine) == sorted(wanted) == list(range(1, STEPS + 1))
    np.testing.assert_allclose([mine[s] for s in wanted], list(wanted.values()), rtol=1e-5)
    for key, tensor in small_runs.weights(alone).items():
        torch.testing.assert_close(small_runs.weights(run)[key], tensor, rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_with_samples_shared_and_back(folder: Path, alone: Path) -> None:
    """Two pairs of processes take the steps between those of a single one."""
    shared = ("engine.domain=2", "engine.zero_stage=2")
    for steps, count, more in ((1, 1, ()), (3, 4, shared), (STEPS, 1, ())):
        run = small_runs.finish(folder, "elastic", count, f"loop.steps={steps}", *more)
    assert_as_alone(run, alone)
    # Each sample is recorded by one of the processes that share it.
    assert read_ledger(run / "ledger") == read_ledger(alone / "ledger")
    assert {file.name for file in (run / "ledger").glob("*")} == {"rank-0.jsonl", "rank-2.jsonl"}


def test_processes_that_cannot_share_a_sample_are_told(folder: Path) -> None:
    config = PretrainStage.model_validate(
        {**yaml.safe_load((folder / "train.yaml").read_text()), "output": str(folder / "refused")}
    )
    model, mixture = config.assemble()
    with closing(mixture):
        assert shared_units(model, mixture, 2) == {"waves": 1}
        with pytest.raises(ConfigError, match="grid of waves, 8 x 8: 8 rows are 4 rows of tokens"):
            shared_units(model, mixture, 5)
        with pytest.raises(ConfigError, match="cannot share a sample of a Linear"):
            shared_units(replace(model, network=nn.Linear(1, 1)), mixture, 2)
    with pytest.raises(
        ConfigError, match=r"engine\.domain: 2 processes are to share a sample, but there are 3"
    ):
        config.engine.model_copy(update={"domain": 2}).groups(3)


def test_simulations_and_compiled_networks_are_not_shared(folder: Path) -> None:
    values = yaml.safe_load((folder / "train.yaml").read_text()) | {"output": str(folder / "refused")}
    simulated = {
        "kind": "online",
        "simulation": {"equation": {"kind": "wave"}, "shape": [8, 8], "num_frames": 4, "interval": 0.02},
    }
    for changes, message in (
        ({"engine": {"domain": 2}, "data": [simulated]}, "engine.domain is for stores"),
        ({"engine": {"domain": 2, "compile": "blocks"}}, "which exchanges rows"),
    ):
        with pytest.raises(ValidationError, match=message):
            PretrainStage.model_validate({**values, **changes})


def program(runs: list[tuple[str, str, list[str]]], deep: list[str], told: str) -> None:
    """What each process does: runs of commands, then steps of a check."""
    for command, config, overrides in runs:
        run_stage(command, config, overrides)
    if deep:
        result = CliRunner().invoke(app, ["check", "--deep", *deep])
        if distributed.rank() == 0:
            Path(told).write_text(result.output)


@pytest.fixture(scope="module")
def combined(folder: Path, alone: Path) -> Path:
    """Runs of one process, and of two that share its samples, with what else changes how a network computes."""
    training = yaml.safe_load((folder / "train.yaml").read_text())
    training["loop"] |= {"steps": 2, "batch_size": 2, "micro_batch": 1, "validate_every": 0}
    network = {
        "kind": "wxformer",
        "dims": [8, 8, 8, 16],
        "depths": [1, 1, 1, 1],
        "head_dim": 8,
        "kernels": [[2, 4], [2], [2], [2]],
        "local_window": 2,
        "global_window": 2,
    }
    small_runs.prepare(folder / "large", shape=(32, 32))
    large = yaml.safe_load((folder / "large" / "train.yaml").read_text())["data"]
    tuning = {key: value for key, value in training.items() if key not in ("network", "data")}
    tuning |= {
        "model": str(alone / "model"),
        "lora": {"rank": 1, "layers": ["attention"]},
        "command": "finetune",
    }
    for name, values in (
        ("bf16", training | {"engine": {"precision": "bf16", "weights": "bfloat16", "zero_stage": 2}}),
        ("wxformer", training | {"network": network, "data": large}),
        ("lora", tuning | {"data": training["data"][0]}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    for count, overrides in ((1, []), (2, ["engine.domain=2"])):
        runs = [
            ("finetune" if name == "lora" else "pretrain", str(folder / f"{name}.yaml"), more)
            for name in ("bf16", "wxformer", "lora")
            for more in [[f"output={folder / name}-{count}", *overrides]]
        ]
        deep = [str(folder / "bf16.yaml"), f"output={folder}/deep", *overrides] if count == 2 else []
        processes.run(
            Path(__file__), "program", count, {"runs": runs, "deep": deep, "told": str(folder / "told")}
        )
    return folder


# Rounding to bf16 happens to values that differ in the last bits of float32.
@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 2e-3), ("wxformer", 1e-5), ("lora", 1e-5)])
def test_what_else_changes_a_network_goes_with_shared_samples(
    combined: Path, name: str, tolerance: float
) -> None:
    alone, shared = (small_runs.losses(combined / f"{name}-{count}") for count in (1, 2))
    assert sorted(alone) == [1, 2]
    np.testing.assert_allclose([shared[1], shared[2]], [alone[1], alone[2]], rtol=tolerance)


def test_a_check_takes_steps_with_the_processes_that_share_a_sample(combined: Path) -> None:
    told = (combined / "told").read_text()
    assert "worst case: dataset waves" in told
    assert "1 group(s) of 2 processes" in told
    assert not (combined / "deep").exists()
