"""Processes of one command: each has its place, and one that fails ends the others."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pelagos.pipeline.cluster.launch import ProcessError, process_environments, run_processes
from pelagos.preprocessing.errors import StoppedError

REAL_PYTHON = sys.executable


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
    assert texts == ["-P -m pelagos.pipeline pretrain a.yaml seed=1\n"] * 2


def test_a_failure_ends_the_others_at_once(program: Path) -> None:
    program.write_text('#!/bin/sh\n[ "$RANK" = 0 ] && exit 3\nexec sleep 60\n')
    began = time.monotonic()
    with pytest.raises(
        ProcessError, match=r"pretrain failed; its 2 processes ended with \[3, -9\]"
    ) as caught:
        run_processes(["pretrain"], 2)
    assert caught.value.codes == (3,)
    assert time.monotonic() - began < 30


def test_processes_that_stopped_are_no_failure(program: Path) -> None:
    program.write_text(f"#!/bin/sh\nexit {StoppedError.exit_code}\n")
    with pytest.raises(StoppedError, match="2 processes have stopped"):
        run_processes(["pretrain"], 2)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('[ "$RANK" = 0 ] && exit 1; exit 74', 74),  # the first of a process that only heard of it
        ("exit 2", 2),
        ("kill -9 $$", 70),
    ],
)
def test_a_failure_has_the_code_of_the_process_that_says_most(program: Path, script: str, code: int) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(ProcessError) as caught:
        run_processes(["pretrain"], 2)
    assert caught.value.exit_code == code


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
def test_processes_end_with_their_launcher(program: Path, tmp_path: Path) -> None:
    program.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/$RANK.new; mv {tmp_path}/$RANK.new {tmp_path}/$RANK\nexec sleep 60\n"
    )
    code = f"""if True:
        import sys
        from pelagos.pipeline.cluster.launch import run_processes
        sys.executable = {str(program)!r}
        run_processes(["pretrain"], 2)
    """
    launcher = subprocess.Popen([REAL_PYTHON, "-c", code])
    files = [tmp_path / str(rank) for rank in range(2)]
    while not all(file.is_file() for file in files):
        assert launcher.poll() is None
        time.sleep(0.02)
    orphans = [psutil.Process(int(file.read_text())) for file in files]
    launcher.kill()
    launcher.wait()
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert not alive
