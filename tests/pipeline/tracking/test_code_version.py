"""Checkpoints say which code wrote them, and whether it was that of a commit."""

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import pelagos
from pelagos.pipeline.tracking.code_version import PACKAGES, _revision, code_version


def test_the_versions_are_those_that_are_installed() -> None:
    versions = code_version()["versions"]
    assert versions["pelagos"] == pelagos.__version__
    assert {name: versions[name] for name in PACKAGES} == {name: version(name) for name in PACKAGES}


def test_an_installed_package_has_no_revision(tmp_path: Path) -> None:
    assert _revision(tmp_path) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_plus_sign_says_that_files_differ_from_the_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git("add", "code.py")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    assert _revision(tmp_path) == commit
    (tmp_path / "untracked.txt").write_text("a result\n")
    assert _revision(tmp_path) == commit
    (tmp_path / "code.py").write_text("2\n")
    assert _revision(tmp_path) == f"{commit}+"
