"""Checkpoints: complete or absent, and checked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pelagos.pipeline.engine import checkpoint, checkpoint_writer
from pelagos.pipeline.engine.saved_tensors import TensorGroups, whole_share
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError

TENSORS = {"weights": {"a": torch.arange(6.0).reshape(2, 3)}, "moments": {"m.a": torch.ones(3)}}


def save(folder: Path, step: int, tensors: TensorGroups, values: dict[str, Any]) -> Path:
    """A checkpoint that one process has written."""
    checkpoint_writer.save(folder, step, whole_share(tensors), values)
    return checkpoint.path_of(folder, step)


def damage(path: Path) -> None:
    file = path / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path, 7, TENSORS, {"fingerprint": "x"})
    assert checkpoint.latest(tmp_path) == path
    tensors, values = checkpoint.load(path)
    assert values["step"] == 7
    assert values["fingerprint"] == "x"
    assert torch.equal(tensors["weights"]["a"], TENSORS["weights"]["a"])


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = save(tmp_path, 1, TENSORS, {})
    damage(path)
    with pytest.raises(DamagedFileError, match=r"rank-00000\.safetensors .* fails its checksum"):
        checkpoint.load(path)


@pytest.mark.parametrize("change", [{"guard": {"skipped": 3}}, {"checksum": ""}])
def test_a_changed_state_is_found(tmp_path: Path, change: dict[str, object]) -> None:
    file = save(tmp_path, 1, TENSORS, {"guard": {"skipped": 2}, "best": float("inf")}) / "state.json"
    values = json.loads(file.read_text())
    assert checkpoint.load(file.parent)[1]["guard"] == {"skipped": 2}
    file.write_text(json.dumps(values | change))
    with pytest.raises(DamagedFileError, match=r"state\.json fails its checksum"):
        checkpoint.load(file.parent)


TORN = ["", "{", "null", "{}", '{"checkpoint": ""}', '{"checkpoint": "step-"}', '{"checkpoint": "../step-1"}']


@pytest.mark.parametrize("content", [*TORN, b"\xff\x00"])
def test_a_torn_name_of_the_newest_checkpoint_stops_a_run_or_gives_way_to_the_newest_that_is_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | bytes
) -> None:
    for step in (1, 2):
        sound = save(tmp_path, step, TENSORS, {})
    damage(save(tmp_path, 3, TENSORS, {}))
    name = tmp_path / checkpoint.LATEST
    name.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        DamagedFileError, match=r"latest\.json is damaged.*loop\.damaged=previous to go on from step-00000003"
    ):
        checkpoint.newest_intact(tmp_path, previous=False)
    assert checkpoint.newest_intact(tmp_path, previous=True) == sound
    warnings = capsys.readouterr().err.splitlines()
    assert [line.rsplit("; ", 1)[1] for line in warnings] == [
        "going on from step-00000003",
        "going on from step-00000002",
    ]
    # From then on all is as if the checkpoint had always been the newest.
    assert checkpoint.newest_intact(tmp_path, previous=False) == checkpoint.latest(tmp_path) == sound


def test_a_missing_name_of_the_newest_checkpoint_does_no_harm(tmp_path: Path) -> None:
    for step in (1, 2):
        newest = save(tmp_path, step, TENSORS, {})
    (tmp_path / checkpoint.LATEST).unlink()
    assert checkpoint.newest_intact(tmp_path, previous=False) == newest
    damage(newest)
    older = checkpoint.path_of(tmp_path, 1)
    with pytest.raises(DamagedFileError, match=r"loop\.damaged=previous to go on from step-00000001"):
        checkpoint.newest_intact(tmp_path, previous=False)
    assert checkpoint.newest_intact(tmp_path, previous=True) == older


@pytest.mark.parametrize("named", [1, 9])
def test_a_name_of_a_checkpoint_that_is_gone_stops_a_run_or_gives_way_to_the_newest_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], named: int
) -> None:
    for step in (2, 3):
        newest = save(tmp_path, step, TENSORS, {})
    (tmp_path / checkpoint.LATEST).write_text(json.dumps({"checkpoint": f"step-{named:08d}"}))
    with pytest.raises(
        MissingFileError, match=rf"step-0000000{named} is not a checkpoint.*from step-00000003"
    ):
        checkpoint.newest_intact(tmp_path, previous=False)
    assert checkpoint.newest_intact(tmp_path, previous=True) == newest
    assert "going on from step-00000003" in capsys.readouterr().err


def test_a_state_that_fails_its_checksum_gives_way_to_the_one_before_where_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = save(tmp_path, 1, TENSORS, {"guard": {"skipped": 0}})
    file = save(tmp_path, 2, TENSORS, {"guard": {"skipped": 2}}) / "state.json"
    file.write_text(file.read_text().replace('"skipped": 2', '"skipped": 3'))
    with pytest.raises(DamagedFileError, match=r"state\.json fails its checksum.*loop\.damaged=previous"):
        checkpoint.newest_intact(tmp_path, previous=False)
    assert checkpoint.newest_intact(tmp_path, previous=True) == older
    assert "state.json fails its checksum; going on from step-00000001" in capsys.readouterr().err
    assert checkpoint.load(older)[1]["guard"] == {"skipped": 0}


def test_a_damaged_name_without_any_checkpoint_does_not_start_a_run_afresh(tmp_path: Path) -> None:
    (tmp_path / checkpoint.LATEST).write_text("{")
    with pytest.raises(DamagedFileError, match=r"latest\.json is damaged.*there is no other"):
        checkpoint.newest_intact(tmp_path, previous=True)


def test_a_folder_without_a_state_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"state\.json"):
        checkpoint.load(tmp_path)


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(4):
        save(tmp_path, step, TENSORS, {})
    checkpoint.prune(tmp_path, 2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "latest.json",
        "step-00000002",
        "step-00000003",
    ]


def test_a_damaged_checkpoint_stops_a_run_and_says_what_would_help(tmp_path: Path) -> None:
    save(tmp_path, 1, TENSORS, {})
    damage(save(tmp_path, 2, TENSORS, {}))
    with pytest.raises(
        DamagedFileError,
        match=r"step-00000002: rank-00000\.safetensors .*loop\.damaged=previous .* step-00000001",
    ):
        checkpoint.newest_intact(tmp_path, previous=False)


def test_the_one_before_a_damaged_checkpoint_is_used_where_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = save(tmp_path, 1, TENSORS, {})
    damage(save(tmp_path, 2, TENSORS, {}))
    assert checkpoint.newest_intact(tmp_path, previous=True) == older
    assert "fails its checksum; going on from step-00000001" in capsys.readouterr().err
    # The steps are repeated, and a sound checkpoint takes the damaged one's place.
    assert checkpoint.latest(tmp_path) == older
    again = save(tmp_path, 2, TENSORS, {})
    assert checkpoint.newest_intact(tmp_path, previous=False) == again


def test_what_a_killed_writer_has_left_is_removed(tmp_path: Path) -> None:
    path = save(tmp_path, 2, TENSORS, {})
    (tmp_path / ".step-00000003.partial").mkdir()
    (tmp_path / ".step-00000003.partial" / "rank-00000.safetensors").write_text("half")
    assert checkpoint.newest_intact(tmp_path, previous=False) == path
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["latest.json", "step-00000002"]


def test_a_missing_or_torn_checkpoint_counts_as_damaged(tmp_path: Path) -> None:
    older = save(tmp_path, 1, TENSORS, {})
    (save(tmp_path, 2, TENSORS, {}) / "state.json").write_text("{")
    assert checkpoint.newest_intact(tmp_path, previous=True) == older
    (tmp_path / checkpoint.LATEST).write_text(json.dumps({"checkpoint": "step-00000009"}))
    with pytest.raises(MissingFileError, match="step-00000009 is not a checkpoint"):
        checkpoint.newest_intact(tmp_path, previous=False)


def test_a_run_whose_only_checkpoint_is_damaged_does_not_start_afresh_by_itself(tmp_path: Path) -> None:
    damage(save(tmp_path, 2, TENSORS, {}))
    with pytest.raises(DamagedFileError, match="there is no other"):
        checkpoint.newest_intact(tmp_path, previous=True)
