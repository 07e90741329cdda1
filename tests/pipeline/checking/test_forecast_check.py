"""Forecast check: an evaluation that cannot be made is refused before its networks are loaded."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.checking import forecast_check
from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.model_folder import Domain, Model, signature_of
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.pipeline.training.training_data import domain_of
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.store.store import open_store
from tests.pipeline.holed_store import with_hole


def checked(folder: Path, store: Path, **starts: object) -> Result:
    values = {
        "command": "evaluate",
        "models": {"mine": str(folder / "model")},
        "store": str(store),
        "output": str(folder / "evaluation"),
        "starts": {"split": "valid", **starts},
    }
    (folder / "evaluate.yaml").write_text(yaml.safe_dump(values))
    return CliRunner().invoke(app, ["check", str(folder / "evaluate.yaml")])


def test_the_forecasts_to_come_are_counted(tmp_path: Path, waves: Path) -> None:
    result = checked(tmp_path, waves, every=1, steps=3)
    assert result.exit_code == 0, result.output
    assert "# note: no model folder" in result.output
    assert (
        "# forecasts: 6 for each of 1 model(s): 2 trajectories of split valid from 3 start(s), 3 step(s)"
        in result.output
    )
    assert yaml.safe_load(result.output)["command"] == "evaluate"


def test_a_store_to_come_is_a_note(tmp_path: Path) -> None:
    assert "# note: the store" in checked(tmp_path, tmp_path / "later.zarr").output


@pytest.mark.parametrize("starts", [{"steps": 6}, {"split": "test"}])
def test_forecasts_that_do_not_fit_are_refused(
    tmp_path: Path, waves: Path, starts: dict[str, object]
) -> None:
    result = checked(tmp_path, waves, **starts)
    assert result.exit_code == 1
    assert "error: " in result.output


@pytest.fixture(scope="module")
def model(waves: Path) -> Model:
    """A model of the waves, as training would leave it."""
    dataset = DatasetConfig(path=waves).open()
    config = FNOConfig(width=4, modes=(2, 2), num_layers=1)
    signature = signature_of([dataset.layout])
    return Model(config, config.build(signature), signature, {"waves": domain_of(dataset)})


def axis(grid: TrainedGrid, **changes: Any) -> TrainedGrid:
    """The grid with another y."""
    return grid.model_copy(update={"y": grid.y.model_copy(update=changes)})


def elsewhere(domain: Domain, what: str) -> Domain:
    """The domain as if training had been on other data than the waves."""
    grid, rate = domain.grid, domain.inputs[1]
    assert grid is not None
    changes: dict[str, dict[str, Any]] = {
        "the same": {},
        "spacing": {"grid": axis(grid, last=2 * grid.y.last)},
        "walls": {"grid": axis(grid, periodic=False)},
        "rows": {"grid": axis(grid, first=grid.y.last, last=grid.y.first)},
        "milliseconds": {"time_units": "ms"},
        "leads": {"max_lead": 0.02, "horizon": 0.02},
        "units": {
            "inputs": (domain.inputs[0], rate.model_copy(update={"units": "km h-1"}), *domain.inputs[2:])
        },
        "variables": {"inputs": (*domain.inputs, rate.model_copy(update={"name": "pressure"}))},
        "history": {"frames": 2},
        "unknown": {"grid": None, "time_units": None},
    }
    return domain.model_copy(update=changes[what])


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("the same", 0, ""),
        ("spacing", 0, "WARNING: .*rows .* apart, in training .*which the network is not told"),
        ("walls", 0, "WARNING: .*the grid is periodic along y, in training it was not periodic"),
        ("rows", 0, "note: .*the rows of .* are turned round for the model"),
        ("milliseconds", 1, "times in '1', the model learnt lead times in 'ms'"),
        ("leads", 0, "lead time"),
        (
            "units",
            1,
            r"in 1; the model knows it in km h-1: build the store with convert: \{displacement_rate",
        ),
        ("variables", 1, "lacks the model's input variables pressure"),
        ("history", 1, "the model sees 2 frames, 1 apart, so the first frame it can start from is 1, not 0"),
        ("unknown", 0, "WARNING: .*does not record the grid"),
    ],
)
@pytest.mark.parametrize("command", ["forecast", "evaluate", "refine"])
def test_a_check_says_where_a_model_is_not_at_home(
    tmp_path: Path, waves: Path, model: Model, command: str, what: str, code: int, said: str
) -> None:
    domains = {"waves": elsewhere(model.domains["waves"], what)}
    replace(model, domains=domains).save(tmp_path / "model")
    one: dict[str, Any] = {"model": str(tmp_path / "model")}
    values = {
        "command": command,
        "store": str(waves),
        "output": str(tmp_path / "output"),
        "starts": {"split": "valid", "steps": 3},
        **({"models": {"mine": one["model"]}} if command == "evaluate" else one),
        **({"equation": {"kind": "wave"}} if command == "refine" else {}),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    result = CliRunner().invoke(app, ["check", str(tmp_path / "config.yaml")])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    found = [line for line in result.output.splitlines() if re.search("note:|WARNING:|error:", line)]
    assert len(found) == bool(said), found
    assert all(re.search(said, line) for line in found), found


def test_scores_on_frames_of_the_training_are_warned_of(tmp_path: Path, waves: Path) -> None:
    assert "WARNING: starts.split: train: models" in checked(tmp_path, waves, split="train").output
    assert "WARNING: starts.split" not in checked(tmp_path, waves).output


def test_starts_that_the_equation_cannot_be_propagated_from_are_refused(
    tmp_path: Path, waves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(waves)
    held_out = int(store.splits["valid"].any(axis=1).argmax())
    monkeypatch.setattr(forecast_check, "open_store", lambda path: with_hole(store, held_out, 0))
    shared = {"store": str(waves), "output": str(tmp_path / "output"), "starts": {"split": "valid"}}
    own: dict[str, dict[str, Any]] = {
        "refine": {"model": "none", "equation": {"kind": "wave"}},
        "evaluate": {"models": {"mine": "none"}, "solver": {"equation": {"kind": "wave"}}},
    }
    for command, values in own.items():
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"command": command, **shared, **values}))
        result = CliRunner().invoke(app, ["check", str(tmp_path / "config.yaml")])
        assert result.exit_code == 1
        assert "1 of 2 starts in split valid have missing values" in result.output
