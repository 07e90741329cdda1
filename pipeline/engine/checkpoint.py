"""Checkpoints: atomic, complete, checksummed, free of pickle, and independent of the cluster's size."""

import json
import re
import shutil
import sys
from pathlib import Path
from threading import Thread
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError, PelagosError
from pelagos.preprocessing.files.durable import (
    give_usual_mode,
    json_checksum,
    sha256,
    sync_directory,
    sync_tree,
    write_json,
)

LATEST = "latest.json"
TensorGroups = dict[str, dict[str, Tensor]]


class CheckpointWriteError(PelagosError, OSError):
    """A checkpoint could not be written; earlier ones are untouched."""


def path_of(folder: Path, step: int) -> Path:
    """The folder of the checkpoint after this many steps."""
    return folder / f"step-{step:08d}"


def save(folder: Path, step: int, tensors: TensorGroups, values: dict[str, Any]) -> Path:
    """Write `folder/step-N` and name it in `latest.json`; returns its path.

    Args:
        folder: the run's folder of checkpoints.
        step: the number of optimiser steps done.
        tensors: tensors by file stem, then by name.
        values: anything that JSON can hold.
    """
    target = path_of(folder, step)
    # One that exists is of the same run after the same steps: runs are repeatable, so it is as good.
    if not target.exists():
        partial = folder / f".{target.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _write_files(partial, {**values, "step": step}, tensors)
            # Everything is on disk before the rename, so that a folder of this name is always complete.
            partial.rename(target)
        except BaseException:
            # On a full disk it would take the room that the next attempt needs.
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_directory(folder)
    write_json(folder / LATEST, {"checkpoint": target.name})
    return target


def _write_files(folder: Path, values: dict[str, Any], tensors: TensorGroups) -> None:
    folder.mkdir(parents=True)
    digests = {}
    for stem, group in tensors.items():
        path = folder / f"{stem}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in group.items()}, path)
        give_usual_mode(path)
        digests[path.name] = sha256(path)
    sync_tree(folder)
    state = {**values, "sha256": digests}
    write_json(folder / "state.json", {**state, "checksum": json_checksum(state, finite=False)})


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


def load(path: Path, *, verify: bool = True) -> tuple[TensorGroups, dict[str, Any]]:
    """The tensors and values that `save` was given.

    Raises:
        MissingFileError: there is no checkpoint.
        DamagedFileError: a file's checksum differs from the recorded one.
    """
    values = _values(path)
    if verify:
        verify_checksums(path)
    try:
        return {Path(name).stem: load_file(path / name) for name in values["sha256"]}, values
    except SafetensorError as error:
        raise DamagedFileError(f"checkpoint {path}: cannot be read as safetensors: {error}") from error


def verify_checksums(path: Path) -> None:
    """Compare all files with their checksums.

    Raises:
        MissingFileError: there is no checkpoint.
        DamagedFileError: a file's checksum differs from the recorded one.
    """
    for name, digest in _values(path)["sha256"].items():
        if not (path / name).is_file() or sha256(path / name) != digest:
            raise DamagedFileError(f"checkpoint {path}: {name} is missing or fails its checksum")


def _values(path: Path) -> dict[str, Any]:
    file = path / "state.json"
    if not file.is_file():
        raise MissingFileError(f"{path} is not a checkpoint: it has no state.json")
    try:
        values = dict(json.loads(file.read_text()))
    except (TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(f"checkpoint {path}: state.json is damaged: {error}") from error
    if values.pop("checksum", None) != json_checksum(values, finite=False):
        raise DamagedFileError(f"checkpoint {path}: state.json fails its checksum")
    return values


def newest_intact(folder: Path, *, previous: bool) -> Path | None:
    """The newest checkpoint, its checksums verified; None where a run has none.

    Leftovers of killed processes are removed, so no other process may be writing to the folder.

    Args:
        folder: the run's folder of checkpoints.
        previous: whether to fall back, with a warning, to the newest intact one where the newest, or the file that
            names it, is damaged or missing.

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
                verify_checksums(path)
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
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in complete_checkpoints(folder)[:-keep]:
        # Renamed first: a kill while files are deleted must not leave what looks like a checkpoint.
        doomed = old.with_name(f".{old.name}.partial")
        shutil.rmtree(doomed, ignore_errors=True)
        old.rename(doomed)
        shutil.rmtree(doomed)


class CheckpointWriter:
    """Writes a run's checkpoints in a thread, while training goes on. As a context, it ends when all are on disk.

    Tensors must not change once they are handed over. On rank 0 they take 16 bytes per weight until they are on disk:
    weights, moving average and two moments.
    """

    def __init__(self, folder: Path, keep: int, *, background: bool = True) -> None:
        self._folder, self._keep, self._background = folder, keep, background
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def save(self, step: int, tensors: TensorGroups, values: dict[str, Any]) -> None:
        """Write a checkpoint once the one before it is written.

        Raises:
            CheckpointWriteError: that one could not be.
        """
        self.wait()
        self._thread = Thread(target=self._write, args=(step, tensors, values), name="checkpoint")
        self._thread.start()
        if not self._background:
            self.wait()

    def wait(self) -> None:
        """Return when all checkpoints are on disk.

        Raises:
            CheckpointWriteError: one could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointWriteError(
                f"a checkpoint could not be written to {self._folder}: {error}"
            ) from error

    def _write(self, step: int, tensors: TensorGroups, values: dict[str, Any]) -> None:
        try:
            save(self._folder, step, tensors, values)
            prune(self._folder, self._keep)
        except Exception as error:
            self._error = error
