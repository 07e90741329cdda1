"""An alias moves to a version that passes its gates, and to no other; the message names the gate that is not passed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from typer.testing import CliRunner, Result

from pelagos.evaluation.point_sums import STATISTICS
from pelagos.evaluation.streaming.region import WHOLE
from pelagos.evaluation.streaming.score_archive import write_scores
from pelagos.models.context import Signature
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.stages.register import RegisterStage, run
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.evaluation_record import read_evaluation
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.files.durable import write_json

TRAJECTORIES, STEPS = 12, 3


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """A registry of two versions of `waves`, the first of which is the champion."""
    folder = tmp_path_factory.mktemp("promote")
    tracking = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
    config, signature = (
        FNOConfig(width=2, modes=(1, 1), num_layers=1),
        Signature(("u",), ("u",), shape=(4, 4)),
    )
    for seed, alias in ((1, "champion"), (2, None)):
        torch.manual_seed(seed)
        Model(config, config.build(signature), signature, {}).save(folder / f"model-{seed}")
        run(RegisterStage(model=folder / f"model-{seed}", name="waves", alias=alias, tracking=tracking))
    return tracking


def evaluated(folder: Path, tracking: TrackingConfig, errors: dict[int, Any]) -> Path:
    """An evaluation of these versions, with mean normalised errors (trajectory, lead time)."""
    checksums = {n: model_checksum(model_registry.resolve(f"models:/waves/{n}", tracking)) for n in errors}
    inputs = {f"model v{n}": {"checksum": checksum} for n, checksum in checksums.items()}
    folder.mkdir()
    write_json(
        folder / "run.json",
        {"fingerprint": "f", "inputs": {**inputs, "store s/waves.zarr": {"checksum": "5" * 64}}},
    )
    (folder / "config.yaml").write_text(yaml.safe_dump({"starts": {"steps": STEPS}}))
    write_scores(folder / "scores.zarr", [(f"v{n}", content(found)) for n, found in errors.items()], {})
    return folder


def content(errors: Any) -> xr.Dataset:
    """What an evaluation keeps of forecasts with these normalised errors of a truth of norm 1."""
    values = np.broadcast_to(np.asarray(errors, float), (TRAJECTORIES, STEPS))
    points = np.zeros((TRAJECTORIES, 1, STEPS, 1, 1, len(STATISTICS)))
    for name, value in (
        ("weight", 1.0),
        ("normalised_truth", 1.0),
        ("normalised_error", values),
        ("max_absolute_error", values),
    ):
        points[:, 0, :, 0, 0, STATISTICS.index(name)] = value
    dims = ("trajectory", "start", "lead_time", "region", "variable", "statistic")
    coordinates = {
        "trajectory": np.arange(TRAJECTORIES),
        "start": [0],
        "lead_time": np.arange(1.0, STEPS + 1),
        "region": [WHOLE],
        "variable": ["u"],
        "statistic": list(STATISTICS),
        "group": ("variable", np.array(["u"])),
    }
    return xr.Dataset({"points": (dims, points)}, coordinates)


def promote(tracking: TrackingConfig, folder: Path, **values: Any) -> Result:
    config = {"command": "promote", "model": "models:/waves/2", "tracking": {"uri": tracking.uri}, **values}
    (folder / "promote.yaml").write_text(yaml.safe_dump(config))
    return CliRunner().invoke(app, ["models", "promote", str(folder / "promote.yaml")])


def champion(tracking: TrackingConfig) -> int:
    return model_registry.version("models:/waves@champion", tracking).version


NOISE = 0.01 * np.random.default_rng(0).normal(size=(TRAJECTORIES, 1))


@pytest.mark.parametrize(
    ("errors", "gates", "failed"),
    [
        ({1: 0.5, 2: 0.6 + NOISE}, {}, "better"),
        # As good on the whole, and better in half of the trajectories.
        ({1: 0.5, 2: 0.5 + 0.01 * np.where(np.arange(TRAJECTORIES) % 2, 1, -1.1)[:, None]}, {}, "better"),
        ({1: 0.5, 2: 0.45 + NOISE}, {"better": {"by": 0.2}}, "better"),
        ({1: 0.5, 2: np.where(np.arange(STEPS) == 2, np.inf, 0.1)}, {"better": None}, "finite"),
    ],
    ids=["worse", "as good", "not by so much", "not finite"],
)
def test_a_version_that_fails_a_gate_is_not_promoted_and_the_gate_is_named(
    tracking: TrackingConfig, tmp_path: Path, errors: dict[int, Any], gates: dict[str, Any], failed: str
) -> None:
    folder = evaluated(tmp_path / "evaluation", tracking, errors)
    result = promote(tracking, tmp_path, evaluation=str(folder), gates=gates)
    assert result.exit_code == 1
    assert f"models:/waves/2 is not promoted to champion: {failed} failed" in result.stderr
    assert champion(tracking) == 1


def test_scores_that_are_missing_or_of_other_models_pass_no_gate(
    tracking: TrackingConfig, tmp_path: Path
) -> None:
    assert "evaluation failed" in promote(tracking, tmp_path).stderr
    folder = evaluated(tmp_path / "evaluation", tracking, {1: 0.5})
    assert "did not score the model" in promote(tracking, tmp_path, evaluation=str(folder)).stderr
    assert champion(tracking) == 1


def test_a_damaged_version_fails_at_its_checksum(tracking: TrackingConfig, tmp_path: Path) -> None:
    weights = model_registry.resolve("models:/waves/2", tracking) / "weights.safetensors"
    before = weights.read_bytes()
    try:
        weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        result = promote(tracking, tmp_path, gates={"better": None, "finite": False})
    finally:
        weights.write_bytes(before)
    assert "checksum failed" in result.stderr
    assert champion(tracking) == 1


def test_scores_of_an_evaluation_reach_the_card_with_their_intervals(
    tracking: TrackingConfig, tmp_path: Path
) -> None:
    folder = evaluated(tmp_path / "evaluation", tracking, {1: 0.5 + NOISE})
    record = read_evaluation(folder)
    first, last, rollout = record.lines(record.models["v1"])
    assert first.value == pytest.approx(0.5 + NOISE.mean())
    assert rollout.low < rollout.value < rollout.high
    assert (last.forecasts, last.failed, last.data) == (TRAJECTORIES, 0, "waves.zarr (`555555555555`)")


def test_a_version_that_passes_becomes_what_the_alias_points_to(
    tracking: TrackingConfig, tmp_path: Path
) -> None:
    folder = evaluated(tmp_path / "evaluation", tracking, {1: 0.5, 2: 0.4 + NOISE})
    output = tmp_path / "outcome.json"
    result = promote(tracking, tmp_path, evaluation=str(folder), output=str(output))
    assert "promoted: models:/waves@champion is version 2" in result.stdout
    outcomes = json.loads(output.read_text())["gates"]
    assert [(one["gate"], one["passed"]) for one in outcomes] == [
        ("checksum", True),
        ("finite", True),
        ("better", True),
    ]
    assert champion(tracking) == 2
