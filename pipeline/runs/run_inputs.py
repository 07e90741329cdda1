"""Run inputs: what a run starts from, by content: a name may come to stand for something else, a checksum cannot."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.remarks import say
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, MissingFileError
from pelagos.preprocessing.files.durable import json_checksum, write_json
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.shard_layout import read_metadata
from pelagos.preprocessing.store.store import Store

_STORE = "store "


@dataclass(frozen=True)
class RunInput:
    """Something that a run starts from.

    Attributes:
        name: what it is to the run: `model`, or `store PATH`.
        reference: the name by which the configuration calls it.
        found: what the reference stood for when the run began: the number of a version in place of an alias.
        checksum: the checksum of its content.
        before: what earlier versions made of it in a run's fingerprint; empty if nothing.
    """

    name: str
    reference: str
    found: str
    checksum: str
    before: str = ""


def store_checksum(store: Store) -> str:
    """The checksum of a store's content; of its metadata alone where it has no manifest."""
    try:
        return read_manifest(store.path).checksum
    except MissingFileError:
        say(f"WARNING: {store.path} has no manifest, so that a run notices only changes of its metadata")
        return json_checksum(read_metadata(store.path))


def recorded(folder: Path, name: str) -> RunInput | None:
    """An input as a run folder recorded it when the run began; None where it did not."""
    found = run_folder.record(folder).get("inputs", {}).get(name)
    return None if found is None else RunInput(name=name, **found)


def recorded_stores(folder: Path) -> dict[str, str]:
    """The checksum of each store that a run began with, by its path; none where its folder records none."""
    inputs = run_folder.record(folder).get("inputs", {})
    return {
        name.removeprefix(_STORE): one["checksum"] for name, one in inputs.items() if name.startswith(_STORE)
    }


def check(folder: Path, config: Config, inputs: Sequence[RunInput]) -> None:
    """Refuse a folder that `claim` would refuse, and write nothing.

    Raises:
        ConfigError: as `claim`.
    """
    held = run_folder.record(folder)
    # Compared apart from the inputs, so that the message can tell a changed configuration from a changed model.
    if held.get("config") == run_folder.fingerprint(config, changeable=True):
        changes = _changes(held["inputs"], _recordable(inputs))
        if changes and not run_folder.is_bare(folder):
            raise ConfigError(
                f"{folder} holds a run that began with something else: {'; '.join(changes)}. Restore what it began"
                " with, or give this run another output=FOLDER"
            )
    elif "config" in held or held.get("fingerprint") != _early_fingerprint(config, inputs):
        run_folder.check(folder, _fingerprint(config, inputs))


def claim(folder: Path, config: Config, inputs: Sequence[RunInput]) -> str:
    """Claim a folder for a run that starts from these inputs; returns the run's fingerprint.

    Args:
        folder: the run's folder.
        config: the stage's configuration.
        inputs: what the run starts from, as it is now.

    Raises:
        ConfigError: the folder holds a run of another configuration, or one that began with other inputs; the message
            says what has changed.
    """
    check(folder, config, inputs)
    own, values = run_folder.fingerprint(config, changeable=True), _recordable(inputs)
    held = run_folder.record(folder)
    if held.get("config") == own and not _changes(held["inputs"], values):
        return str(held["fingerprint"])
    digest = _early_fingerprint(config, inputs)
    if "config" not in held and held.get("fingerprint") == digest:
        _say_unrecorded(folder, inputs)
    else:
        digest = _fingerprint(config, inputs)
        run_folder.claim(folder, config, digest)
    # In place of the bare claim, in one rename: a folder is never without one.
    write_json(folder / run_folder.CLAIM, {"fingerprint": digest, "config": own, "inputs": values})
    return digest


def _fingerprint(config: Config, inputs: Sequence[RunInput]) -> str:
    return run_folder.fingerprint(config, *(one.checksum for one in inputs), changeable=True)


def _early_fingerprint(config: Config, inputs: Sequence[RunInput]) -> str:
    """That of runs of earlier versions; without it none of them could be continued."""
    return run_folder.fingerprint(config, *(one.before for one in inputs if one.before), changeable=True)


def _recordable(inputs: Sequence[RunInput]) -> dict[str, dict[str, Any]]:
    """What a run folder records of its inputs, by name."""
    return {
        one.name: {key: value for key, value in asdict(one).items() if key not in ("name", "before")}
        for one in inputs
    }


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of the inputs has changed, in words."""
    changes = []
    for name in sorted({*old, *new}):
        then, now = (inputs.get(name, {}).get("checksum", "none") for inputs in (old, new))
        if then != now:
            found = {**new, **old}[name]["found"]  # as it was at the beginning, where it was there
            changes.append(f"the {name} ({found}) had the checksum {then[:12]} then and has {now[:12]} now")
    return changes


def _say_unrecorded(folder: Path, inputs: Sequence[RunInput]) -> None:
    """Say which inputs a run of an earlier version goes on with unchecked."""
    if unknown := [f"{one.name} {one.found}" for one in inputs if not one.before]:
        print(
            f"WARNING: {folder} was begun by an earlier version, which did not record the content of"
            f" {', '.join(unknown)}: it is taken to be the same as then, and recorded from now on",
            file=sys.stderr,
            flush=True,
        )
