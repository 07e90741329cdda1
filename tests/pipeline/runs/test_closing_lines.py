"""Closing lines: a command ends with what it wrote and what can be done next, and both are there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pelagos.pipeline.cli import app
from pelagos.pipeline.runs.closing_lines import closing_lines
from pelagos.pipeline.runs.commands import STAGES
from pelagos.pipeline.runs.run_folder import DONE
from pelagos.pipeline.stages.finetune import FinetuneStage
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer

NETWORK = {"kind": "scot", "embed_dim": 8, "depths": [1], "num_heads": [2], "skip_connections": [0]}
SIZE = {"num_trajectories": 4, "shape": [8, 8], "num_frames": 4, "interval": 0.02}


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrackingConfig, "build", lambda *_, **__: Tracker())


def said(folder: Path, values: dict[str, Any]) -> str:
    """What a command of a configuration says."""
    file = folder / f"{values['command']}.yaml"
    file.write_text(yaml.safe_dump(values))
    result = CliRunner().invoke(app, [values["command"], str(file)])
    assert result.exit_code == 0, result.output
    for command in re.findall(r"pelagos ([a-z]+) ", result.output):
        assert command in {
            *STAGES,
            *(one.name for one in app.registered_commands if one.name),
            "inspect",
            "init",
            "plot",
        }
    return result.output


def training(folder: Path, store: Path, command: str, **others: Any) -> dict[str, Any]:
    loop = {"steps": 2, "batch_size": 4, "micro_batch": 4}
    return {"command": command, "output": str(folder / command), "loop": loop, **others}


def test_the_way_from_simulation_to_fine_tuning_tells_each_next_step(tmp_path: Path, waves: Path) -> None:
    simulation = {"equation": {"kind": "wave"}, **SIZE}
    archive = tmp_path / "a.hdf5"
    values = {"command": "simulate", "simulation": simulation, "format": "the_well", "output": str(archive)}
    assert f"wrote {archive}: 4 trajectories" in said(tmp_path, values)

    source = {"kind": "the_well", "paths": str(archive)}
    splits = {"kind": "trajectories", "valid": 1}
    store = tmp_path / "stores/mine/mine-1.zarr"
    built = said(
        tmp_path,
        {
            "command": "build",
            "dataset": "mine",
            "source": source,
            "root": str(tmp_path / "stores"),
            "splits": splits,
        },
    )
    assert f"pelagos init {store}" in built
    assert store.is_dir()

    first = training(tmp_path, store, "pretrain", network=NETWORK, data=[{"path": str(store)}])
    model = tmp_path / "pretrain/model"
    assert f"model: {model}, " in said(tmp_path, first)
    assert "this run had finished before; nothing was left to do" in said(tmp_path, first)

    same = training(tmp_path, store, "finetune", model=str(model), data={"path": str(store)})
    assert f"all weights were copied from {model}" in said(tmp_path, same)
    scratch = {**same, "scratch": True, "output": str(tmp_path / "scratch")}
    assert (
        f"all weights started afresh (scratch: true); taken from {model}: its kind of network and what it knows for"
        " these data of scales, the duration of lead time 1, history, constraints"
    ) in said(tmp_path, scratch)


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ({}, "what it knows for these data of scales, the duration of lead time 1, history, constraints"),
        (
            {"scales": "store", "constraints": [], "data": {"path": "store", "time_scale": 2, "history": []}},
            "nothing",
        ),
    ],
)
def test_another_network_has_of_the_model_what_is_said(
    tmp_path: Path, values: dict[str, Any], taken: str
) -> None:
    whole = {
        "output": tmp_path,
        "model": "model",
        "data": {"path": "store"},
        "loop": {"steps": 1, "batch_size": 1},
        "scratch": True,
        "network": {"kind": "fno"},
        **values,
    }
    record = {"summary": {"parameters": 3, "steps": 1}}
    (tmp_path / DONE).write_text(json.dumps(record))
    lines = closing_lines("finetune", FinetuneStage.model_validate(whole))
    assert f"all weights started afresh (scratch: true); taken from model: {taken}" in lines


def test_fine_tuning_tells_what_is_copied_and_what_is_fresh(tmp_path: Path, waves: Path) -> None:
    said(tmp_path, training(tmp_path, waves, "pretrain", network=NETWORK, data=[{"path": str(waves)}]))
    ds = simulate(SimulateConfig.model_validate({"equation": {"kind": "wave"}, **SIZE}))
    known = str(next(iter(ds.data_vars)))
    well_writer.write(ds.assign(tracer=ds[known].copy()), tmp_path / "more.hdf5")
    values = {
        "dataset": "more",
        "source": {"kind": "the_well", "paths": str(tmp_path / "more.hdf5")},
        "root": str(tmp_path),
        "splits": {"kind": "trajectories"},
    }
    more = build(BuildConfig.model_validate(values))
    model = str(tmp_path / "pretrain/model")
    told = said(tmp_path, training(tmp_path, more, "finetune", model=model, data={"path": str(more)}))
    adapted = json.loads((tmp_path / "finetune/adapted.json").read_text())
    assert f"copied from {model}: all weights but those below" in told
    assert f"started afresh: {', '.join(adapted['fresh'])}" in told
    assert any("tracer" in one for one in adapted["fresh"])
