"""Checkpoints: atomic, complete, checksummed, free of pickle, and independent of the cluster's size.

One is a folder `step-N`: each process's tensors in a file of its own, and `state.json` with the checksums of the files,
the map of their pieces and what else a run goes on from. `checkpoint_writer.py` says how it is written.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from pelagos.pipeline.engine.saved_tensors import SavedTensors, TensorGroups
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError, PelagosError
from pelagos.preprocessing.files.durable import json_checksum, sha256, write_json

LATEST = "latest.json"
STATE = "state.json"


def path_of(folder: Path, step: int) -> Path:
    """The folder of the checkpoint after this many steps."""
    return folder / f"step-{step:08d}"


def latest(folder: Path) -> Path | None:
    """The checkpoint that a run continues from, if it has one.

    Raises:
        DamagedFileError: the file that names it is damaged.
    """
    name = folder / LATEST
    if not name.is_file():
        # A kill between the first checkpoint and its name leaves this; the newest complete one is what it would name.
        whole = complete_checkpoints(folder)
        return whole[-1] if whole else None
    try:
        named = str(json.loads(name.read_text())["checkpoint"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{name} is damaged: {error!r}") from error
    # The name becomes a path, which must not leave the folder.
    if not re.fullmatch(r"step-\d+", named):
        raise DamagedFileError(f"{name} is damaged: it names {named!r}, not step-NUMBER")
    return folder / named


def saved_tensors(path: Path) -> tuple[SavedTensors, dict[str, Any]]:
    """The tensors of a checkpoint, to be read piece by piece, and its values.

    Raises:
        MissingFileError: there is no checkpoint.
        DamagedFileError: its `state.json` is damaged.
    """
    values = _values(path)
    return SavedTensors(path, values), values


def load(path: Path) -> tuple[TensorGroups, dict[str, Any]]:
    """All tensors of a checkpoint, whole, by group and name, and its values.

    Raises:
        MissingFileError: there is no checkpoint.
        DamagedFileError: a file's checksum differs from the recorded one.
    """
    verify_checksums(path)
    saved, values = saved_tensors(path)
    return {group: saved.group(group) for group in saved.groups}, values


def verify_checksums(path: Path, part: slice = slice(None)) -> None:
    """Compare files with their checksums, all or a part of them.

    Raises:
        MissingFileError: there is no checkpoint.
        DamagedFileError: a file's checksum differs from the recorded one.
    """
    for name, digest in list(_values(path)["sha256"].items())[part]:
        if not (path / name).is_file() or sha256(path / name) != digest:
            raise DamagedFileError(f"checkpoint {path}: {name} is missing or fails its checksum")


def _values(path: Path) -> dict[str, Any]:
    file = path / STATE
    if not file.is_file():
        raise MissingFileError(f"{path} is not a checkpoint: it has no state.json")
    try:
        values = dict(json.loads(file.read_text()))
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"checkpoint {path}: state.json is damaged: {error}") from error
    if values.pop("checksum", None) != json_checksum(values, finite=False):
        raise DamagedFileError(f"checkpoint {path}: state.json fails its checksum")
    return values


def newest_intact(folder: Path, *, previous: bool, part: slice = slice(None)) -> Path | None:
    """The newest checkpoint, its checksums verified; None where a run has none.

    Leftovers of killed processes are removed, so no other process may be writing to the folder.

    Args:
        folder: the run's folder of checkpoints.
        previous: whether to fall back, with a warning, to the newest intact one where the newest, or the file that
            names it, is damaged or missing.
        part: of its files, whose checksums are verified.

    Raises:
        DamagedFileError: the newest or the file that names it is damaged, and there is no falling back.
        MissingFileError: the newest is missing, and there is no falling back.
    """
    for leftover in folder.glob(".step-*.partial"):
        shutil.rmtree(leftover)
    while True:
        path = None
        try:
            path = latest(folder)
            if path is not None:
                verify_checksums(path, part)
        except (DamagedFileError, MissingFileError) as error:
            _fall_back(folder, path, error, allowed=previous)
        else:
            return path


def _fall_back(folder: Path, damaged: Path | None, error: PelagosError, *, allowed: bool) -> None:
    """Let `latest.json` name the newest of the other checkpoints, and set a damaged one aside."""
    others = [other for other in complete_checkpoints(folder) if other != damaged]
    if not others:
        raise type(error)(f"{error}; there is no other: delete {folder} to start afresh") from error
    newest = others[-1]
    # Not by default: nobody should repeat days of training by accident.
    if not allowed:
        raise type(error)(
            f"{error}; restore it from a copy, or set loop.damaged=previous to go on from {newest.name}"
        ) from error
    print(f"WARNING: {error}; going on from {newest.name}", file=sys.stderr, flush=True)
    write_json(folder / LATEST, {"checkpoint": newest.name})
    if damaged is not None and damaged.exists():
        aside = damaged.with_name(f"damaged-{damaged.name}")
        shutil.rmtree(aside, ignore_errors=True)
        damaged.rename(aside)


def complete_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).is_file())


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in complete_checkpoints(folder)[:-keep]:
        # Renamed first: a kill while files are deleted must not leave what looks like a checkpoint.
        doomed = old.with_name(f".{old.name}.partial")
        shutil.rmtree(doomed, ignore_errors=True)
        old.rename(doomed)
        shutil.rmtree(doomed)
