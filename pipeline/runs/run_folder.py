"""Run folder: records which configuration it is of and whether that has finished, so that nothing is overwritten."""

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelagos.pipeline.runs.configuration import dump
from pelagos.preprocessing.config import ChangeableMark, Config
from pelagos.preprocessing.errors import ConfigError, DamagedFileError
from pelagos.preprocessing.files.durable import write_bytes, write_json

CLAIM = "run.json"
DONE = "done.json"


def fingerprint(config: Config, *inputs: str, changeable: bool = False) -> str:
    """A digest of a configuration and of the fingerprints of what the stage reads.

    Args:
        config: the stage's configuration.
        inputs: fingerprints of the stores that it reads.
        changeable: whether fields marked `Changeable` may differ between runs of one fingerprint.
    """
    exclude = _changeable_fields(config) if changeable else None
    # Sorted: the order of fields in a class says nothing about a run.
    record = json.dumps([config.model_dump(mode="json", exclude=exclude), *inputs], sort_keys=True)
    return hashlib.sha256(record.encode()).hexdigest()


def _changeable_fields(value: Any) -> dict[Any, Any]:
    """What pydantic's `exclude` takes to leave out the `Changeable` fields of a value, at any depth."""
    exclude: dict[Any, Any] = {}
    children: dict[Any, Any] = {}
    if isinstance(value, Config):
        for name, field in type(value).model_fields.items():
            if any(isinstance(mark, ChangeableMark) for mark in field.metadata):
                # Left out of the digest, so that the same run may go on with other readers or another number of
                # checkpoints.
                exclude[name] = True
            else:
                children[name] = getattr(value, name)
    elif isinstance(value, dict):
        children = value
    elif isinstance(value, tuple):
        children = dict(enumerate(value))
    for key, child in children.items():
        if nested := _changeable_fields(child):
            exclude[key] = nested
    return exclude


def finished(folder: Path, digest: str) -> dict[str, Any] | None:
    """The summary of the stage that finished here with this fingerprint; None if there is none.

    A damaged record counts as none, with a warning: doing the rest again writes it anew.
    """
    file = folder / DONE
    if not file.is_file():
        return None
    try:
        record = _read(file)
        return dict(record["summary"]) if record["fingerprint"] == digest else None
    except DamagedFileError as error:
        print(f"WARNING: {error}; it is written anew", file=sys.stderr, flush=True)
        return None


def claim(folder: Path, config: Config, digest: str) -> None:
    """Claim a folder for a run: write the resolved configuration, or find the same one there.

    Raises:
        ConfigError: the folder holds a run of another configuration, which is left alone.
        DamagedFileError: what says so is damaged.
    """
    check(folder, digest)
    if record(folder).get("fingerprint") == digest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "config.yaml", dump(config).encode())
    # Last, since this is what claims the folder.
    write_json(folder / CLAIM, {"fingerprint": digest})


def check(folder: Path, digest: str) -> None:
    """Refuse a folder of another run, and write nothing; raises as `claim` does."""
    held = record(folder).get("fingerprint", "")
    if held and held != digest and not is_bare(folder):
        raise ConfigError(
            f"{folder} holds a run of another configuration (see {folder / 'config.yaml'}): "
            "give this one another output=FOLDER, or delete that folder"
        )


def record(folder: Path) -> dict[str, Any]:
    """What a folder records of the run that claimed it; empty where none has.

    Raises:
        DamagedFileError: what says so is damaged.
    """
    file = folder / CLAIM
    try:
        return _read(file) if file.is_file() else {}
    except DamagedFileError as error:
        raise DamagedFileError(
            f"{error}; it says which run the folder holds: restore it, or delete it if"
            f" {file.with_name('config.yaml')} is the run that you mean to continue"
        ) from error


def note_code(folder: Path, version: Mapping[str, Any]) -> None:
    """Record the code that is about to work on the run in a folder, after the code that has."""
    held = record(folder)
    known = held.get("code", [])
    if held and known[-1:] != [dict(version)]:
        write_json(folder / CLAIM, {**held, "code": [*known, dict(version)]})


def _read(file: Path) -> dict[str, Any]:
    """A record of this module.

    Raises:
        DamagedFileError: the file holds no such record.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"{file} is damaged: {error}") from error
    # A file cut short by a crash of the machine may still be JSON, as an empty object is.
    wanted = {"fingerprint": str} | ({"summary": dict} if file.name == DONE else {})
    for key, kind in wanted.items():
        if not isinstance(record, dict) or not isinstance(record.get(key), kind):
            raise DamagedFileError(f"{file} is damaged: it has no {key}")
    return dict(record)


def is_bare(folder: Path) -> bool:
    """Whether a run only claimed the folder and then failed, as with a mistake in its configuration."""
    return {file.name for file in folder.iterdir()} <= {CLAIM, "config.yaml"}


def finish(folder: Path, digest: str, summary: Mapping[str, Any]) -> None:
    """Record that the run has finished."""
    record = {"fingerprint": digest, "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    write_json(folder / DONE, {**record, "summary": dict(summary)})
