"""Checkpoints: complete or absent, and checked."""

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from pelagos.pipeline.engine import checkpoint
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError, is_temporary

TENSORS = {"weights": {"a": torch.arange(6.0).reshape(2, 3)}, "moments": {"m.a": torch.ones(3)}}


def damage(path: Path) -> None:
    file = path / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, TENSORS, {"fingerprint": "x"})
    assert checkpoint.latest(tmp_path) == path
    tensors, values = checkpoint.load(path)
    assert values["step"] == 7
    assert values["fingerprint"] == "x"
    assert torch.equal(tensors["weights"]["a"], TENSORS["weights"]["a"])


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, TENSORS, {})
    damage(path)
    with pytest.raises(DamagedFileError, match=r"weights\.safetensors .* fails its checksum"):
        checkpoint.load(path)


@pytest.mark.parametrize("change", [{"guard": {"skipped": 3}}, {"checksum": ""}])
def test_a_changed_state_is_found(tmp_path: Path, change: dict[str, object]) -> None:
    file = (
        checkpoint.save(tmp_path, 1, TENSORS, {"guard": {"skipped": 2}, "best": float("inf")}) / "state.json"
    )
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
        sound = checkpoint.save(tmp_path, step, TENSORS, {})
    damage(checkpoint.save(tmp_path, 3, TENSORS, {}))
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
        newest = checkpoint.save(tmp_path, step, TENSORS, {})
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
        newest = checkpoint.save(tmp_path, step, TENSORS, {})
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
    older = checkpoint.save(tmp_path, 1, TENSORS, {"guard": {"skipped": 0}})
    file = checkpoint.save(tmp_path, 2, TENSORS, {"guard": {"skipped": 2}}) / "state.json"
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
        checkpoint.save(tmp_path, step, TENSORS, {})
    checkpoint.prune(tmp_path, 2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "latest.json",
        "step-00000002",
        "step-00000003",
    ]


def test_a_damaged_checkpoint_stops_a_run_and_says_what_would_help(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, TENSORS, {})
    damage(checkpoint.save(tmp_path, 2, TENSORS, {}))
    with pytest.raises(
        DamagedFileError,
        match=r"step-00000002: weights\.safetensors .*loop\.damaged=previous .* step-00000001",
    ):
        checkpoint.newest_intact(tmp_path, previous=False)


def test_the_one_before_a_damaged_checkpoint_is_used_where_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = checkpoint.save(tmp_path, 1, TENSORS, {})
    damage(checkpoint.save(tmp_path, 2, TENSORS, {}))
    assert checkpoint.newest_intact(tmp_path, previous=True) == older
    assert "fails its checksum; going on from step-00000001" in capsys.readouterr().err
    # The steps are repeated, and a sound checkpoint takes the damaged one's place.
    assert checkpoint.latest(tmp_path) == older
    again = checkpoint.save(tmp_path, 2, TENSORS, {})
    assert checkpoint.newest_intact(tmp_path, previous=False) == again


def test_what_a_killed_writer_has_left_is_removed(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 2, TENSORS, {})
    (tmp_path / ".step-00000003.partial").mkdir()
    (tmp_path / ".step-00000003.partial" / "weights.safetensors").write_text("half")
    assert checkpoint.newest_intact(tmp_path, previous=False) == path
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["latest.json", "step-00000002"]


def test_a_missing_or_torn_checkpoint_counts_as_damaged(tmp_path: Path) -> None:
    older = checkpoint.save(tmp_path, 1, TENSORS, {})
    (checkpoint.save(tmp_path, 2, TENSORS, {}) / "state.json").write_text("{")
    assert checkpoint.newest_intact(tmp_path, previous=True) == older
    (tmp_path / checkpoint.LATEST).write_text(json.dumps({"checkpoint": "step-00000009"}))
    with pytest.raises(MissingFileError, match="step-00000009 is not a checkpoint"):
        checkpoint.newest_intact(tmp_path, previous=False)


def test_a_run_whose_only_checkpoint_is_damaged_does_not_start_afresh_by_itself(tmp_path: Path) -> None:
    damage(checkpoint.save(tmp_path, 2, TENSORS, {}))
    with pytest.raises(DamagedFileError, match="there is no other"):
        checkpoint.newest_intact(tmp_path, previous=True)


def test_writing_does_not_keep_training_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write = threading.Event()
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *given: (may_write.wait(30), save(*given)))
    writer = checkpoint.CheckpointWriter(tmp_path, keep=2)
    writer.save(1, TENSORS, {})
    assert checkpoint.latest(tmp_path) is None
    may_write.set()
    writer.wait()
    assert checkpoint.load(checkpoint.path_of(tmp_path, 1))[1]["step"] == 1


@pytest.mark.parametrize("background", [True, False])
def test_a_failure_to_write_reaches_the_run(tmp_path: Path, background: bool) -> None:
    (tmp_path / "occupied").write_text("")
    writer = checkpoint.CheckpointWriter(tmp_path / "occupied", keep=2, background=background)
    with pytest.raises(checkpoint.CheckpointWriteError, match=r"could not be written to .*occupied"), writer:
        writer.save(1, TENSORS, {})


def save_for_ever(folder: str) -> None:
    big = {"weights": {"a": torch.zeros(500_000)}}
    writer = checkpoint.CheckpointWriter(Path(folder), keep=2)
    newest = checkpoint.latest(Path(folder))
    start = 0 if newest is None else checkpoint.load(newest)[1]["step"]
    for step in range(start, 10**6):
        writer.save(step, big, {})


def test_a_kill_at_any_moment_leaves_a_loadable_checkpoint(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    moments = random.Random(0)
    reached = -1
    for _ in range(2):
        process = context.Process(target=save_for_ever, args=(str(tmp_path),))
        process.start()
        before = checkpoint.latest(tmp_path)
        while checkpoint.latest(tmp_path) == before:
            assert process.is_alive()
            time.sleep(0.01)
        time.sleep(moments.uniform(0.05, 0.4))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        newest = checkpoint.newest_intact(tmp_path, previous=False)
        assert newest is not None
        step = checkpoint.load(newest)[1]["step"]
        assert step > reached
        reached = step


def test_a_save_that_fails_leaves_nothing_and_the_next_may_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with (
            pytest.raises(checkpoint.CheckpointWriteError) as caught,
            checkpoint.CheckpointWriter(tmp_path, 2) as writer,
        ):
            writer.save(3, TENSORS, {})
    assert is_temporary(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert checkpoint.latest(checkpoint.save(tmp_path, 3, TENSORS, {}).parent) == tmp_path / "step-00000003"


def test_all_files_of_a_checkpoint_may_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = checkpoint.save(tmp_path, 1, TENSORS, {})
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}
