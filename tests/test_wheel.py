"""A wheel holds all that the commands need, and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("configs", "evaluation", "models", "pipeline", "preprocessing")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves folders beside what it builds."""
    copy = tmp_path_factory.mktemp("wheel") / "copy"
    copy.mkdir()
    for name in (*PACKAGES, "pelagos", "slurm"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    code = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    [built] = copy.glob("*.whl")
    return built


def test_a_wheel_holds_every_module_configuration_and_job_script(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.*") if path.is_file()]
    wanted = {f"pelagos/{path.relative_to(ROOT)}" for path in files if path.suffix in (".py", ".yaml")}
    scripts = {f"pelagos/configs/slurm/{path.name}" for path in (ROOT / "slurm").iterdir() if path.is_file()}
    assert held == wanted | scripts | {"pelagos/__init__.py", "pelagos/py.typed"}


def test_the_commands_find_what_is_shipped_in_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    run = [sys.executable, "-P", "-m", "pelagos.pipeline", "submit", "build/forced_flow", "--dry-run"]
    where = "import pelagos; print(pelagos.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command, wanted in (run, "alone build"), ([sys.executable, "-P", "-c", where], str(tmp_path)):
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert wanted in result.stdout
