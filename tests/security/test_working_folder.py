"""Modules in the working folder, where a stranger's archive may lie, are not imported."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pelagos
from pelagos.pipeline.cluster import launch

ROOT = Path(pelagos.__file__).resolve().parent.parent
SHADOWS = ("yaml", "typer", "numpy", "difflib")
"""Modules that a command imports at once."""


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A folder with modules that say when they are imported."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')\n")
    (tmp_path / "a.yaml").write_text("command: nothing\n")
    return tmp_path


@pytest.mark.parametrize("options", [["-m"], ["-P", "-m"]], ids=["by hand", "as scripts do"])
def test_a_command_imports_nothing_from_there_but_what_pythonpath_names(
    options: list[str], downloads: Path
) -> None:
    mine = downloads / "mine"
    mine.mkdir()
    (mine / "difflib.py").write_text("raise SystemExit('imported from PYTHONPATH')\n")
    command = [sys.executable, *options, "pelagos.pipeline", "check", "a.yaml"]
    told = []
    for path in (str(ROOT), f"{mine}:{ROOT}"):
        environment = {**os.environ, "PYTHONPATH": path}
        environment.pop("PYTHONSAFEPATH", None)
        done = subprocess.run(
            command, cwd=downloads, env=environment, capture_output=True, text=True, check=False
        )
        told.append(done.stderr)
    assert "`command` must be one of" in told[0]
    assert "imported from PYTHONPATH" in told[1]


def test_launched_processes_and_jobs_start_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **options: Any) -> None:
        started.append(command)
        raise OSError

    monkeypatch.setattr("subprocess.Popen", start)
    with pytest.raises(OSError):  # noqa: PT011  # ours
        launch.run_processes(["pretrain", "a.yaml"], 2)
    assert started[0][1:4] == ["-P", "-m", "pelagos.pipeline"]
    script = (ROOT / "slurm" / "env.sh").read_text()
    assert script.count('"$PELAGOS_PYTHON" -P -') == script.count('"$PELAGOS_PYTHON" -')
