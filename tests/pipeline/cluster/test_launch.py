"""Processes of one command: each has its place, and one that fails ends the others."""

import os
import sys
import time
from pathlib import Path

import pytest

from pelagos.pipeline.cluster.launch import ProcessError, process_environments, run_processes
from pelagos.preprocessing.errors import StoppedError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script that runs instead of Python."""
    file = tmp_path / "python"
    file.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(file))
    return file


def test_processes_have_their_places_and_one_address() -> None:
    found = process_environments(3)
    assert [(e["RANK"], e["LOCAL_RANK"], e["WORLD_SIZE"]) for e in found] == [
        ("0", "0", "3"),
        ("1", "1", "3"),
        ("2", "2", "3"),
    ]
    assert len({(e["MASTER_ADDR"], e["MASTER_PORT"]) for e in found}) == 1
    assert all(e["PATH"] == os.environ["PATH"] for e in found)


@pytest.mark.parametrize("given", ["", "5"])
def test_processes_share_the_cores_unless_the_user_has_said_how_many(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert {e["OMP_NUM_THREADS"] for e in process_environments(4)} == {given or "2"}


def test_each_process_runs_the_command(program: Path, tmp_path: Path) -> None:
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/$RANK\n')
    run_processes(["pretrain", "a.yaml", "seed=1"], 2)
    texts = [(tmp_path / str(rank)).read_text() for rank in range(2)]
    assert texts == ["-m pelagos.pipeline pretrain a.yaml seed=1\n"] * 2


def test_a_failure_ends_the_others_at_once(program: Path) -> None:
    program.write_text('#!/bin/sh\n[ "$RANK" = 0 ] && exit 3\nexec sleep 60\n')
    began = time.monotonic()
    with pytest.raises(ProcessError, match=r"pretrain failed; its 2 processes ended with \[3, -9\]"):
        run_processes(["pretrain"], 2)
    assert time.monotonic() - began < 30


def test_processes_that_stopped_are_no_failure(program: Path) -> None:
    program.write_text(f"#!/bin/sh\nexit {StoppedError.exit_code}\n")
    with pytest.raises(StoppedError, match="2 processes have stopped"):
        run_processes(["pretrain"], 2)
