"""Refinement as a command: on the equation's domain alone, without truth too, and logged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs.model_folder import Model, load, signature_of
from pelagos.pipeline.stages import refine
from pelagos.pipeline.stages.refine import RefineStage, prepare, run
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training.training_data import domain_of
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.store.store import open_store
from tests.pipeline.holed_store import with_hole
from tests.preprocessing.simulated_store import simulated_store


@pytest.fixture(scope="module")
def model(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with fresh weights for the waves."""
    return fresh(waves, tmp_path_factory.mktemp("refine") / "model")


def fresh(store: Path, folder: Path) -> Path:
    """A network with fresh weights for a store."""
    dataset = DatasetConfig(path=store).open()
    torch.manual_seed(0)
    config, signature = FNOConfig(width=4, modes=(2, 2), num_layers=1), signature_of([dataset.layout])
    Model(config, config.build(signature), signature, {open_store(store).dataset: domain_of(dataset)}).save(
        folder
    )
    return folder


def stage(waves: Path, model: Path, folder: Path, **values: Any) -> RefineStage:
    return RefineStage.model_validate(
        {
            "model": str(model),
            "store": waves,
            "equation": {"kind": "wave"},
            "output": folder / "refined",
            "starts": {"split": "valid", "trajectories": 1, "steps": 2},
            "evaluations": 3,
            "threads": 1,
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
            **values,
        }
    )


def test_data_on_another_domain_are_refused_before_anything_is_written(
    waves: Path, model: Path, tmp_path: Path
) -> None:
    config = stage(waves, model, tmp_path, equation={"kind": "wave", "length": 6.283})
    with pytest.raises(DataError, match=r"waves.* make a length of 1, the equation's length is 6.283"):
        run(config)
    assert not config.output.exists()


@pytest.mark.parametrize("split", ["valid", "train"])
def test_no_forecast_is_made_from_missing_values_nor_the_head_trained_on_them(
    waves: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    store = open_store(waves)
    holed = with_hole(store, int(store.splits[split].any(axis=1).argmax()), 0)
    monkeypatch.setattr(refine, "open_store", lambda path: holed)
    config = stage(waves, model, tmp_path, head={"trajectories": 2})
    with pytest.raises(
        DataError, match=f"1 of . starts in split {split} have missing values, from which nothing"
    ):
        run(config)
    assert not config.output.exists()


def test_forecasts_whose_truth_has_missing_values_spoil_no_median(
    waves: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = open_store(waves)
    holed = with_hole(store, int(store.splits["valid"].any(axis=1).argmax()), 2)
    monkeypatch.setattr(refine, "open_store", lambda path: holed)
    starts = {"split": "valid", "trajectories": 2, "steps": 2}
    costs = run(stage(waves, model, tmp_path, starts=starts, evaluations=2))
    spoilt, whole = costs["forecasts"]
    assert not any("error" in name for name in spoilt)
    assert costs["error_after"] == whole["error_after"] < 1
    assert costs["residual_after"] == (spoilt["residual_after"] + whole["residual_after"]) / 2
    assert (costs["incomplete_truth"], costs["accepted"]) == (1, 2)
    assert "the truth of 1 of 2 forecasts has missing values" in capsys.readouterr().out


def test_forecasts_that_fail_count_as_infinite_and_train_no_head(
    waves: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: "Recorded"
) -> None:
    broken = load(model)
    for weights in broken.network.parameters():
        weights.data.fill_(torch.nan)
    monkeypatch.setattr(refine, "load", lambda folder: broken)
    config = stage(waves, model, tmp_path, evaluations=1)
    costs = run(config)
    assert (costs["failed"], costs["accepted"], costs["error_before"]) == (1, 0, torch.inf)
    assert costs["solver_error"] < 1
    assert json.loads((config.output / "refinement.json").read_text())["error_before"] is None
    assert tracker.told["metrics"].keys() == {
        f"refine/{name}" for name, value in costs.items() if name != "forecasts" and value != torch.inf
    }
    with pytest.raises(DataError, match="head: forecasts of split train fail"):
        run(stage(waves, model, tmp_path, head={"trajectories": 1}, output=tmp_path / "other"))


class Recorded(Tracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def params(self, values: Mapping[str, Any]) -> None:
        self.told["params"] = values

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.told["metrics"] = values

    def close(self, status: str = "FINISHED") -> None:
        self.told["status"] = status


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()

    def build(config: TrackingConfig, name: str, folder: Path) -> Recorded:
        recorded.told |= {"name": name, "folder": folder}
        return recorded

    monkeypatch.setattr(TrackingConfig, "build", build)
    return recorded


def test_forecasts_beyond_the_last_frame_are_refined_without_truth_and_logged(
    waves: Path, model: Path, tmp_path: Path, tracker: Recorded
) -> None:
    # The store has six frames: from the fifth on there is truth for one step of three.
    starts = {"split": "valid", "trajectories": 1, "first": 4, "steps": 3}
    with pytest.raises(DataError, match="no forecast of 3 steps"):
        run(stage(waves, model, tmp_path, starts=starts))
    config = stage(waves, model, tmp_path, starts=starts, truth=False)
    costs = run(config)
    assert not any("error" in name for name in (*costs, *costs["forecasts"][0]))
    assert costs["residual_after"] < costs["residual_before"]
    assert read_forecasts(config.output / "refined.zarr").sizes["lead_time"] == 3
    assert json.loads((config.output / "refinement.json").read_text())["accepted"] == 1
    told = tracker.told
    assert (told["name"], told["folder"], told["status"]) == ("refined", config.output, "FINISHED")
    assert told["params"]["equation"]["kind"] == "wave"
    assert told["metrics"]["refine/residual_after"] == costs["residual_after"]


def test_a_head_that_learns_from_fewer_trajectories_than_asked_for_says_so(
    waves: Path, model: Path, tmp_path: Path
) -> None:
    store = open_store(waves)
    for number in (2, 200):
        config = stage(waves, model, tmp_path, head={"trajectories": number})
        _, notes = prepare(config, store, config.starts.plan(store))
        assert any("head.trajectories: split train has" in note for note in notes) == (number == 200)


def test_a_head_trained_on_other_trajectories_comes_first_and_its_cost_is_told(
    waves: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tracker: Recorded
) -> None:
    head = {"trajectories": 2, "passes": 2}
    costs = run(stage(waves, model, tmp_path, head=head, weight={"exponent": -1}, window=None, batch=1))
    said = capsys.readouterr().out
    assert costs["residual_after"] < costs["residual_of_head"] < costs["residual_before"]
    assert "head: residual of train" in said
    assert f"of the truth itself {costs['residual_of_truth']:.3g}" in said
    told, kept = tracker.told["metrics"], json.loads((tmp_path / "refined" / "refinement.json").read_text())
    for name in ("head_seconds", "head_training_seconds", "head_training_seconds_each"):
        assert kept[name] == told[f"refine/{name}"] == costs[name] > 0
    assert costs["head_training_seconds_each"] == costs["head_training_seconds"] / 2
    assert f"and {costs['head_seconds']:.3g} for the head, whose training took" in said
    alone = run(stage(waves, model, tmp_path, head=head, evaluations=0, output=tmp_path / "alone"))
    assert alone["residual_after"] <= alone["residual_before"]
    assert alone["forecasts"][0]["evaluations"] == 2


def test_with_truth_errors_are_told_and_a_failed_run_is_logged_as_such(
    waves: Path, model: Path, tmp_path: Path, tracker: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = run(stage(waves, model, tmp_path))
    assert costs["solver_error"] < costs["error_before"]
    assert tracker.told["metrics"]["refine/error_after"] == costs["error_after"]

    def broken(*arguments: Any, **options: Any) -> None:
        raise DataError("no forecast")

    monkeypatch.setattr(refine, "Forecaster", broken)
    with pytest.raises(DataError, match="no forecast"):
        run(stage(waves, model, tmp_path, output=tmp_path / "other"))
    assert tracker.told["status"] == "FAILED"


def test_the_released_loss_is_told_by_name_and_of_incompressible_flow_alone(
    waves: Path, model: Path, tmp_path: Path, tracker: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        ValidationError, match=r"released loss is of navier_stokes and kolmogorov, not of wave"
    ):
        stage(waves, model, tmp_path, compare=["released"])
    equation = {"kind": "navier_stokes", "state": "vorticity", "drag": 0.0}
    shape = {"num_trajectories": 2, "shape": (8, 8), "num_frames": 3, "interval": 0.05}
    flow = simulated_store(tmp_path, shape, {"valid": 1}, equation=equation, dataset="flow")
    own = fresh(flow, tmp_path / "model")
    costs = run(stage(flow, own, tmp_path, equation=equation, compare=["released"]))
    # The network is not trained: its frames follow from nothing, which the released loss does not see.
    for when in ("before", "after"):
        assert 0 < costs[f"released_{when}"] < 1e-4
        assert tracker.told["metrics"][f"refine/released_{when}"] == costs[f"released_{when}"]
    assert costs["residual_before"] > 0.1
    assert f"small for any other frames: {costs['released_before']:.3g} ->" in capsys.readouterr().out
