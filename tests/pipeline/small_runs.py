"""Small pretraining runs in real processes, for tests of what interrupts them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from processes import Team
from safetensors.torch import load_file

from pelagos.pipeline.engine import checkpoint
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

SAMPLES = 90
STEPS, BATCH = 16, 12


def prepare(folder: Path, steps: int = STEPS, shape: tuple[int, int] = (8, 8)) -> None:
    """A store of travelling waves with 90 pairs to train on, and a configuration."""
    folder.mkdir(exist_ok=True)
    config = SimulateConfig(
        equation={"kind": "wave"}, num_trajectories=8, shape=shape, num_frames=6, interval=0.02
    )
    well_writer.write(simulate(config), folder / "waves.hdf5")
    values = {
        "dataset": "waves",
        "source": {"kind": "the_well", "paths": str(folder / "waves.hdf5")},
        "root": str(folder / "stores"),
        "splits": {"kind": "trajectories", "valid": 2},
    }
    store = build(BuildConfig.model_validate(values))
    training = {
        "command": "pretrain",
        "output": "given for each run",
        "network": {"kind": "external", "path": "stochastic:Stochastic"},
        "data": [{"path": str(store)}],
        "loop": {
            "steps": steps,
            "batch_size": BATCH,
            "micro_batch": 1,
            "ema": 0.9,
            "checkpoint_every": 1,
            "validation_samples": 4,
            "log_every": 1,
            "ledger": True,
        },
        "optimizer": {"lr": 1e-2},
        "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
        "threads": 1,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(training))


def program(config: str, overrides: list[str]) -> None:
    """What each process does."""
    import sys

    import typer

    sys.path.insert(0, str(Path(__file__).parent))
    from pelagos.pipeline.cli import run_stage

    try:
        run_stage("pretrain", config, overrides)
    except typer.Exit as end:
        sys.exit(end.exit_code)


def start(folder: Path, name: str, processes: int, *overrides: str) -> Team:
    """Begin or continue a run."""
    arguments = {"config": str(folder / "train.yaml"), "overrides": [f"output={folder / name}", *overrides]}
    return Team(Path(__file__), "program", processes, arguments)


def finish(folder: Path, name: str, processes: int, *overrides: str) -> Path:
    """Begin or continue a run, and wait for its end."""
    team = start(folder, name, processes, *overrides)
    output = team.join()
    assert team.codes == [0] * processes, output
    return folder / name


def kill_when(team: Team, due: Callable[[], bool]) -> None:
    """Kill all processes of a run once something is the case, and it is not over."""
    while not due():
        assert team.alive, team.join()
        time.sleep(0.002)
    team.kill()


def reached(run: Path) -> int:
    """The step of a run's newest checkpoint, -1 where it has none."""
    newest = checkpoint.latest(run / "checkpoints")
    return -1 if newest is None else int(newest.name.removeprefix("step-"))


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of the finished model."""
    return load_file(run / "model" / "weights.safetensors")


def losses(run: Path) -> dict[int, float]:
    """By step; of a step reported again after a kill, the last."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {record["step"]: record["train/loss"] for record in records if "train/loss" in record}
