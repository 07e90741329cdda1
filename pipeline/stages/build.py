"""Build: an archive becomes a store."""

from pathlib import Path
from typing import Literal

from pelagos.pipeline.runs.progress import bar
from pelagos.preprocessing.assumptions import describe
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.store.manifest import MANIFEST
from pelagos.preprocessing.store.store import open_store


class BuildStage(BuildConfig):
    """The store to build; see BuildConfig for its values."""

    command: Literal["build"] = "build"


def run(config: BuildStage) -> Path:
    """Build the store of a configuration, or what is missing of it; returns its path."""
    plain = BuildConfig.model_validate(config.model_dump(exclude={"command"}))
    with bar(config.dataset, 0) as show:
        path = build(plain, lambda done, total: show(done, total=total))
    print(f"store: {path}")
    if (path / MANIFEST).exists() and (found := open_store(path).assumptions):
        print(f"it assumes (docs/assumptions.md; strict=true refuses it):\n{describe(found)}")
    return path
