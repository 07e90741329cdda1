"""Forecasts, evaluations and registrations under fire: SIGKILL at random moments of their lives."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
import yaml
from processes import Team

from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.store.store import open_store
from tests.fresh_model import SMALL, fresh_model

KILLS, EVALUATIONS = 8, 20
pytestmark = pytest.mark.crash


def program(command: str, config: str, overrides: list[str]) -> None:
    """What each process does."""
    import sys

    import typer

    from pelagos.pipeline.cli import run_stage

    try:
        run_stage(command, config, overrides)
    except typer.Exit as end:
        sys.exit(end.exit_code)


def start(file: Path, command: str, output: Path, *overrides: str) -> Team:
    arguments = {
        "command": command,
        "config": str(file),
        "overrides": [f"output={output}", *overrides],
    }
    return Team(Path(__file__), "program", 1, arguments)


def finish(team: Team) -> None:
    output = team.join()
    assert team.codes == [0], output


def torment(
    begin: Callable[[Path], Team], folder: Path, examine: Callable[[Path], None], kills: int = KILLS
) -> Path:
    """Run a command once undisturbed, then kill it again and again, and let it end; returns what it wrote."""
    finish(begin(folder / "first"))  # which also starts the server that the others are forked from
    began = time.monotonic()
    finish(begin(folder / "undisturbed"))
    duration, moments, killed = time.monotonic() - began, random.Random(1), 0
    for _ in range(kills):
        team = begin(folder / "killed")
        # Importing comes first, and breaks nothing.
        time.sleep(moments.uniform(0.2, 0.9) * duration)
        killed += team.alive
        team.kill()
        examine(folder / "killed")
    assert killed >= kills // 2
    finish(begin(folder / "killed"))
    return folder / "killed"


@pytest.fixture(scope="module")
def model(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with fresh weights that knows the waves."""
    folder = tmp_path_factory.mktemp("model") / "model"
    fresh_model(open_store(waves), SMALL, leads={"max_lead": 0.1}).save(folder)
    return folder


def written(folder: Path, values: dict[str, Any]) -> Path:
    file = folder / "stage.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


STARTS = {"split": "train", "steps": 4, "every": 1}


def test_a_forecast_is_there_whole_or_not_at_all(waves: Path, model: Path, tmp_path: Path) -> None:
    values = {"command": "forecast", "model": str(model), "store": str(waves), "starts": STARTS, "batch": 1}
    file = written(tmp_path, values)

    def begin(output: Path) -> Team:
        return start(file, "forecast", output, "overwrite=true", "threads=1")

    def examine(output: Path) -> None:
        if output.exists():
            same(output, tmp_path / "undisturbed")

    # Each goes on where the one before was killed, so that all kills together hit every part of its life.
    ended = torment(begin, tmp_path, examine, kills=20)
    assert tree(ended) == tree(tmp_path / "undisturbed")
    assert {path.name for path in tmp_path.iterdir()} == {
        "stage.yaml",
        *(name for run in ("first", "undisturbed", "killed") for name in (run, f".{run}.lock")),
    }


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def same(one: Path, other: Path) -> None:
    first, second = read_forecasts(one).load(), read_forecasts(other).load()
    assert xr.Dataset.identical(first, second)


def test_an_evaluation_goes_on_to_the_same_bytes(waves: Path, model: Path, tmp_path: Path) -> None:
    values = {
        "command": "evaluate",
        "models": {"net": str(model)},
        "store": str(waves),
        "starts": STARTS,
        "baselines": ["persistence", "climatology", "linear_extrapolation", "stencil"],
        "batch": 1,
        "log": False,
    }
    values["starts"] = {**STARTS, "first": 1}
    file, output = written(tmp_path, values), tmp_path / "evaluation"

    def begin() -> Team:
        return start(file, "evaluate", output, "threads=1")

    finish(begin())  # which also starts the server that the others are forked from
    shutil.rmtree(output)
    began = time.monotonic()
    finish(begin())
    duration, moments, killed = time.monotonic() - began, random.Random(2), 0
    undisturbed = files(output)
    shutil.rmtree(output)
    for _ in range(EVALUATIONS):
        team = begin()
        # Importing comes first, and breaks nothing.
        time.sleep(moments.uniform(0.2, 1.0) * duration)
        killed += team.alive
        team.kill()
        scores = output / "scores.json"
        assert not scores.exists() or scores.read_bytes() == undisturbed["scores.json"]
        finish(begin())
        assert files(output) == undisturbed
        shutil.rmtree(output)
    assert killed >= EVALUATIONS // 2


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their paths."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_registration_leaves_whole_versions_and_an_alias(model: Path, tmp_path: Path) -> None:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    values = {"command": "register", "model": str(model), "name": "ocean"}
    file = written(tmp_path, {**values, "tracking": {"uri": tracking.uri}})

    def examine(output: Path) -> None:
        registered = model_registry.resolve("models:/ocean@champion", tracking)
        assert contents(registered) == contents(model)

    ended = torment(lambda output: start(file, "register", output), tmp_path, examine)
    version = json.loads(ended.read_text())["version"]
    registered = model_registry.resolve(f"models:/ocean/{version}", tracking)
    assert contents(registered) == contents(model)
    assert int(tracking.client().get_registered_model("ocean").aliases["champion"]) == version


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
