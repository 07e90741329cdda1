"""Code version: which code wrote a checkpoint."""

import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pelagos

PACKAGES = ("torch", "deepspeed", "numpy", "numba", "zarr", "safetensors")


@cache
def code_version() -> dict[str, Any]:
    """Versions of Pelagos, Python and the packages that results depend on, and the revision of the code."""
    versions = {name: version(name) for name in PACKAGES}
    return {
        "versions": {"pelagos": pelagos.__version__, "python": platform.python_version(), **versions},
        "revision": _revision(Path(pelagos.__file__).parent.parent),
    }


def _revision(folder: Path) -> str | None:
    """The commit of a clone, with a plus sign if files differ from it; None for an installed package."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None

    def ask(*arguments: str) -> str | None:
        answer = subprocess.run(
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    # Untracked files are results more often than code.
    changed = ask("status", "--porcelain", "--untracked-files=no")
    return f"{commit}+" if commit and changed else commit
