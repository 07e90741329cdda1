"""Several seeds in one command: each run is what it would be by itself, and their losses are told together."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.checking import check
from pelagos.pipeline.checking.inspect_command import inspected
from pelagos.pipeline.runs.closing_lines import closing_lines
from pelagos.pipeline.runs.model_folder import Model, load, signature_of
from pelagos.pipeline.stages.finetune import FinetuneStage, run
from pelagos.pipeline.stages.seed_runs import held_out_losses, run_seeds
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training import training_run
from pelagos.pipeline.training.training_data import domain_of
from pelagos.preprocessing.errors import ConfigError, MissingFileError
from pelagos.preprocessing.samples.dataset import DatasetConfig


class FileTracker(Tracker):
    """Keeps metrics in the run's folder, and nowhere else."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "metrics.jsonl"

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


@pytest.fixture
def stage(waves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a fine-tuning of a small network takes; the threads of torch are put back."""
    monkeypatch.setattr(TrackingConfig, "build", lambda _, name, folder, active: FileTracker(folder))
    dataset = DatasetConfig(path=waves).open()
    config, signature = UNetConfig(dims=(4,), depth=1, kernel=3), signature_of([dataset.layout])
    Model(config, config.build(signature), signature, {"waves": domain_of(dataset)}).save(tmp_path / "model")
    loop = {"steps": 2, "batch_size": 2, "micro_batch": 2, "peak_flops": 1e12, "validation_samples": 4}
    return {"model": str(tmp_path / "model"), "data": {"path": waves}, "loop": loop, "fresh": ["recovery"]}


def test_each_seed_gives_what_it_gives_alone_and_more_can_follow(
    stage: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "several"
    run(FinetuneStage.model_validate({**stage, "output": folder, "seeds": [3]}))
    first = (folder / "seed3/done.json").stat().st_mtime_ns
    both = FinetuneStage.model_validate({**stage, "output": folder, "seeds": [3, 1]})
    assert run(both) == folder
    assert (folder / "seed3/done.json").stat().st_mtime_ns == first
    single = FinetuneStage.model_validate({**stage, "output": tmp_path / "alone", "seed": 1})
    wanted = load(run(single)).network.state_dict()
    found = {seed: load(folder / f"seed{seed}/model").network.state_dict() for seed in (3, 1)}
    assert all(torch.equal(weight, wanted[name]) for name, weight in found[1].items())
    assert not all(torch.equal(weight, wanted[name]) for name, weight in found[3].items())
    [(name, losses)] = json.loads((folder / "seeds.json").read_text()).items()
    assert name == "valid/waves"
    assert losses["1"] == held_out_losses(single)[name]
    median, extremes = sum(losses.values()) / 2, sorted(losses.values())
    told = f"valid/waves: median {median:.4g}, from {extremes[0]:.4g} to {extremes[1]:.4g} (seed 3: "
    assert told in capsys.readouterr().out
    assert closing_lines("finetune", both)[0].count("/model") == 2
    # Another command tells of the seeds that are there, too.
    run(FinetuneStage.model_validate({**stage, "output": folder, "seeds": [1]}))
    [kept] = json.loads((folder / "seeds.json").read_text()).values()
    assert kept == losses
    shown = inspected(str(folder), [], TrackingConfig(), as_json=False)
    assert "2 run(s) of pelagos finetune" in shown
    assert f"models.seed1={folder}/seed1/model" in shown
    assert told.removesuffix("(seed 3: ") in shown
    with pytest.raises(MissingFileError, match=r"holds no model: .*; give .*/seed1/model or .*/seed3/model"):
        load(folder)
    (folder / "seed3/done.json").unlink()
    run_seeds((), folder, kept=both.runs())
    [kept] = json.loads((folder / "seeds.json").read_text()).values()
    assert list(kept) == ["1"]
    assert "seed3 is not finished, and is left out of seeds.json" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [[4, 3], [4]])
def test_no_seed_is_trained_where_another_one_is_of_another_run(
    stage: dict[str, Any], tmp_path: Path, seeds: list[int]
) -> None:
    folder = tmp_path / "several"
    # As an interrupted run leaves it.
    training_run.prepare(FinetuneStage.model_validate({**stage, "output": folder, "seeds": [3]}).runs()[0])
    (folder / "seed3/metrics.jsonl").touch()
    changed = {**stage, "output": folder, "seeds": seeds, "optimizer": {"lr": 0.5}}
    with pytest.raises(ConfigError, match=r"seed3 holds a run of another configuration"):
        run(FinetuneStage.model_validate(changed))
    assert not (folder / "seed4").exists()


def test_check_tells_of_the_runs_and_looks_at_one(stage: dict[str, Any], tmp_path: Path) -> None:
    config = FinetuneStage.model_validate({**stage, "output": tmp_path / "several", "seeds": [4, 5]})
    found = [str(one) for one in check.findings(config, 1, deep=False)]
    assert f"2 runs, the first in {tmp_path / 'several/seed4'}" in found[0]
    assert not (tmp_path / "several").exists()


def test_losses_are_those_of_the_weights_that_the_model_has(stage: dict[str, Any], tmp_path: Path) -> None:
    records = [
        {"step": 1, "valid/waves": 0.1},
        {"step": 1, "valid_rollout/waves": 0.8},
        {"step": 2, "valid/waves": 0.2, "lr": 1e-3},
        {"step": 2, "valid_rollout/waves": 0.5},
        {"step": 3, "valid/waves": 0.3},
        {"step": 3, "valid_rollout/waves": 0.6},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    for kept, best in (("last", 0.3), ("best", 0.2)):
        loop = {**stage["loop"], "kept": kept, "validate_every": 1}
        config = FinetuneStage.model_validate({**stage, "loop": loop, "output": tmp_path})
        assert held_out_losses(config)["valid/waves"] == best


@pytest.mark.parametrize("values", [{"seeds": [1, 1]}, {"seeds": [1, 2], "seed": 0}])
def test_seeds_that_contradict_are_refused(
    stage: dict[str, Any], tmp_path: Path, values: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match="seeds"):
        FinetuneStage.model_validate({**stage, "output": tmp_path, **values})
