"""The run that stages share: what may change on resuming, and that a stage need not be known to be run."""

import hashlib
import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pydantic import BaseModel

from pelagos.models.context import Signature
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.engine import checkpoint_writer, distributed
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.runs.run_folder import fingerprint
from pelagos.pipeline.stages.finetune import FinetuneStage
from pelagos.pipeline.stages.pretrain import PretrainStage
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training import training_run
from pelagos.pipeline.training.trainer import Trainer
from pelagos.pipeline.training.training_run import TrainingStage, store_input
from pelagos.preprocessing.config import ChangeableMark
from pelagos.preprocessing.errors import DataError, StoppedError
from pelagos.preprocessing.files.durable import checksum
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.store.manifest import read_manifest

CHANGEABLE: dict[str, Any] = {
    "output": True,
    "name": True,
    "threads": True,
    "tracking": True,
    "engine": {"zero_stage", "overlap", "compile", "weights", "domain", "shared", "tf32"},
    "data": {"__all__": {"producers", "ahead", "verify"}, "producers": True, "ahead": True, "verify": True},
    "loop": {
        "checkpoint_every",
        "keep",
        "background_save",
        "damaged",
        "ledger",
        "log_every",
        "loader",
        "peak_flops",
        "stalled_after",
    },
}
"""What runs of the first release may change; one more or less here, and none of them continues."""
STORED = {"path": "waves.zarr"}
SIMULATED: dict[str, Any] = {
    "kind": "online",
    "simulation": {"equation": {"kind": "wave"}, "shape": [8, 8], "num_frames": 4, "interval": 0.1},
    "reservoir": 8,
}
COMMON: dict[str, Any] = {"output": "run", "loop": {"steps": 4, "batch_size": 8, "micro_batch": 4}}


def pretraining(**changes: Any) -> PretrainStage:
    values = {**COMMON, "network": {"kind": "unet"}, "data": [STORED, SIMULATED], **changes}
    return PretrainStage.model_validate(values)


def finetuning(**changes: Any) -> FinetuneStage:
    return FinetuneStage.model_validate({**COMMON, "model": "model", "data": SIMULATED, **changes})


@pytest.mark.parametrize("config", [pretraining(), finetuning(), finetuning(data=STORED)])
def test_the_fingerprint_is_that_of_runs_before(config: TrainingStage) -> None:
    recorded = config.model_dump(mode="json", exclude=CHANGEABLE)
    text = json.dumps([recorded, "store"], sort_keys=True)
    assert fingerprint(config, "store", changeable=True) == hashlib.sha256(text.encode()).hexdigest()


def marked(model: type[BaseModel]) -> set[str]:
    """The changeable fields of a section and of the sections in it, by dotted keys."""
    found = set()
    for name, field in model.model_fields.items():
        if any(isinstance(mark, ChangeableMark) for mark in field.metadata):
            found.add(name)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {f"{name}.{key}" for key in marked(field.annotation)}
    return found


def test_the_marked_fields_are_those_that_may_change() -> None:
    sections = {name: keys for name, keys in CHANGEABLE.items() if isinstance(keys, set)}
    wanted = {name for name, keys in CHANGEABLE.items() if keys is True}
    wanted |= {f"{name}.{key}" for name, keys in sections.items() for key in keys}
    assert marked(PretrainStage) == marked(FinetuneStage) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"output": "elsewhere", "threads": 3, "name": "other"},
        {"engine": {"zero_stage": 3}},
        {"loop": {**COMMON["loop"], "ledger": True, "loader": {"threads": 7}}},
        {"data": [STORED, {**SIMULATED, "producers": 5, "ahead": 9}]},
    ],
)
def test_a_run_continues_with_other_values_of_changeable_fields(changes: dict[str, Any]) -> None:
    one, other = pretraining(), pretraining(**changes)
    assert fingerprint(one, changeable=True) == fingerprint(other, changeable=True)
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"engine": {"precision": "bf16"}},
        {"loop": {**COMMON["loop"], "steps": 5}},
        {"data": [STORED, {**SIMULATED, "reservoir": 9}]},
    ],
)
def test_a_run_is_another_with_other_values_of_all_else(changes: dict[str, Any]) -> None:
    assert fingerprint(pretraining(), changeable=True) != fingerprint(pretraining(**changes), changeable=True)


def test_a_run_has_the_part_whose_stores_exist() -> None:
    present, missing = pretraining().available()
    assert present is not None
    assert present.data == pretraining().data[1:]
    assert missing == ["the store waves.zarr does not exist yet"]
    assert pretraining(data=[STORED]).available() == (None, missing)


def test_an_adaptation_is_available_once_its_model_is() -> None:
    present, [missing] = finetuning().available()
    assert present is None
    assert "no model folder model" in missing


class Closings(Tracker):
    """Remembers how it was closed."""

    def __init__(self) -> None:
        self.status: list[str] = []

    def close(self, status: str = "FINISHED") -> None:
        """See Tracker.close."""
        self.status.append(status)


@pytest.mark.parametrize(
    ("error", "status"),
    [(DataError("torn"), "FAILED"), (StoppedError("by SIGTERM"), "KILLED"), (None, "FINISHED")],
)
def test_the_tracker_learns_how_a_run_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, status: str
) -> None:
    tracker = Closings()
    monkeypatch.setattr(TrackingConfig, "build", lambda *_, **__: tracker)

    def trained(*_: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(training_run, "_train", trained)
    config = pretraining(output=tmp_path / "run")
    with nullcontext() if error is None else pytest.raises(type(error)):
        training_run.train(config, cast(Model, None), cast(Mixture, None), "digest")
    assert tracker.status == [status]


def test_a_run_without_its_model_is_not_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not training_run._finished(tmp_path, "mine")
    run_folder.finish(tmp_path, "mine", {"steps": 4})
    assert not training_run._finished(tmp_path, "mine")
    assert "its model is gone; it is made anew" in capsys.readouterr().err
    (tmp_path / "model").mkdir()
    for name in ("model.json", "weights.safetensors"):
        (tmp_path / "model" / name).touch()
    assert training_run._finished(tmp_path, "mine")


def test_the_last_weights_are_kept_where_no_validation_was_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = {**COMMON["loop"], "kept": "best", "validate_every": 1}
    config = pretraining(output=tmp_path, loop=loop)
    unet = UNetConfig(dims=(4, 8), depth=1, kernel=3)
    signature = Signature(("u",), ("u",), shape=(8, 8))
    model = Model(unet, unet.build(signature), signature, {})
    distributed.start()
    engine = EngineConfig().build(model.network, torch.optim.AdamW(model.network.parameters()), 1, 1)
    shares = {"average": {"": engine.shares()["weights"][""]}}
    checkpoint_writer.save(tmp_path / "checkpoints", 2, engine.saved(shares, {}, copied=False), {})
    trainer = cast("Any", Trainer).__new__(Trainer)
    trainer.config, trainer.engine = config.loop, engine
    trainer.folder, trainer.step = tmp_path / "checkpoints", 2
    training_run._save_model(config, model, trainer, "mine")
    assert "no validation had a finite loss" in capsys.readouterr().err
    saved = load(tmp_path / "model").network.state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.network.state_dict().items())
    assert run_folder.finished(tmp_path, "mine") is not None


def test_a_store_with_other_values_under_the_same_metadata_is_another_input(
    waves: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "waves.zarr"
    shutil.copytree(waves, copy)
    before = store_input(DatasetConfig(path=copy))
    assert before.checksum == store_input(DatasetConfig(path=waves)).checksum
    # As a source without a checksum that has changed would be built.
    (copy / "stats/mean/c/0").write_bytes(bytes((copy / "stats/mean/c/0").stat().st_size))
    manifest = read_manifest(copy)
    files = {**manifest.files, "stats/mean/c/0": checksum(copy / "stats/mean/c/0")}
    replace(manifest, files=files).write(copy)
    after = store_input(DatasetConfig(path=copy))
    assert after.before == before.before
    assert after.checksum != before.checksum


def test_a_copy_without_a_manifest_is_told_by_its_metadata(waves: Path, tmp_path: Path) -> None:
    copy = tmp_path / "waves.zarr"
    shutil.copytree(waves, copy)
    (copy / "_build/manifest.json").unlink()
    found = store_input(DatasetConfig(path=copy))
    assert found.checksum == found.before
