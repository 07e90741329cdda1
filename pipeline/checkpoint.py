"""Checkpoints: atomic, complete, checksummed, free of pickle, and independent of the cluster's size."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pelagos.preprocessing.durable import sha256, sync_tree, write_json
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError

LATEST = "latest.json"


def save(folder: Path, step: int, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> Path:
    """Write `folder/step-N` aside, sync it, rename it and name it in `latest.json`.

    Args:
        folder: where a run keeps its checkpoints.
        step: the number of optimiser steps done.
        tensors: file stem -> tensors by name.
        values: what JSON can hold.
    """
    target = folder / f"step-{step:08d}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digests = {}
    for stem, group in tensors.items():
        path = partial / f"{stem}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in group.items()}, path)
        digests[path.name] = sha256(path)
    sync_tree(partial)
    write_json(partial / "state.json", {**values, "step": step, "sha256": digests})
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    write_json(folder / LATEST, {"checkpoint": target.name})
    return target


def latest(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, if it has one."""
    name = folder / LATEST
    if not name.is_file():
        return None
    return folder / str(json.loads(name.read_text())["checkpoint"])


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What `save` was given.

    Raises:
        MissingFileError: there is no checkpoint.
        DamagedFileError: a file's checksum differs from the recorded one.
    """
    if not (path / "state.json").is_file():
        raise MissingFileError(f"{path} is not a checkpoint: it has no state.json")
    values = json.loads((path / "state.json").read_text())
    tensors = {}
    for name, digest in values["sha256"].items():
        if not (path / name).is_file() or sha256(path / name) != digest:
            raise DamagedFileError(f"checkpoint {path}: {name} is missing or fails its checksum")
        tensors[Path(name).stem] = load_file(path / name)
    return tensors, values


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)
