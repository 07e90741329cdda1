"""Checkpoints: complete or absent, and checked."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from pelagos.pipeline import checkpoint
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError

TENSORS = {"weights": {"a": torch.arange(6.0).reshape(2, 3)}, "moments": {"m.a": torch.ones(3)}}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, TENSORS, {"fingerprint": "x"})
    assert checkpoint.latest(tmp_path) == path
    tensors, values = checkpoint.load(path)
    assert values["step"] == 7
    assert values["fingerprint"] == "x"
    assert torch.equal(tensors["weights"]["a"], TENSORS["weights"]["a"])


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, TENSORS, {})
    file = path / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"weights\.safetensors .* fails its checksum"):
        checkpoint.load(path)


def test_a_folder_without_a_state_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"state\.json"):
        checkpoint.load(tmp_path)


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in range(4):
        checkpoint.save(tmp_path, step, TENSORS, {})
    checkpoint.prune(tmp_path, 2)
    assert [path.name for path in sorted(tmp_path.glob("step-*"))] == ["step-00000002", "step-00000003"]


def save_for_ever(folder: str) -> None:
    big = {"weights": {"a": torch.zeros(500_000)}}
    for step in range(10**6):
        checkpoint.save(Path(folder), step, big, {})
        checkpoint.prune(Path(folder), 2)


def test_a_kill_at_any_moment_leaves_a_loadable_checkpoint(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=save_for_ever, args=(str(tmp_path),))
    process.start()
    while checkpoint.latest(tmp_path) is None:
        time.sleep(0.01)
    time.sleep(0.37)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    assert checkpoint.load(newest)[1]["step"] >= 0
