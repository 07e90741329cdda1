"""Model versions: what a registry holds, what a version is, how two differ, and whether one is undamaged."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.runs.model_checksum import DESCRIPTION, WEIGHTS, model_checksum
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.model_registry import RegisteredVersion
from pelagos.pipeline.tracking.tracker import TrackingConfig, flatten
from pelagos.pipeline.tracking.version_files import CHECKSUM_TAG
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError

_ABSENT = "(absent)"


def listing(tracking: TrackingConfig, name: str = "") -> list[RegisteredVersion]:
    """The versions of one model, or of all that are registered.

    Raises:
        MissingFileError: there is no model of this name.
    """
    models = [name] if name else model_registry.names(tracking)
    return [version for model in models for version in model_registry.versions(tracking, model)]


def facts(version: RegisteredVersion) -> dict[str, Any]:
    """What the registry knows of a version, for JSON."""
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.created / 1000))
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "created": created,
        "run": version.run_id,
        "tags": dict(sorted(version.tags.items())),
    }


def table(found: list[RegisteredVersion]) -> str:
    """A line for each version."""
    rows = [("model", "aliases", "registered", "checksum", "stage")]
    for version in found:
        known = facts(version)
        rows.append(
            (
                version.reference,
                ", ".join(version.aliases) or "-",
                known["created"][:10],
                version.tags.get(CHECKSUM_TAG, "-")[:12],
                version.tags.get("pelagos.stage", "-"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def description(reference: str, tracking: TrackingConfig) -> dict[str, Any]:
    """What a model is: its network, data and history, and what the registry knows of it.

    Args:
        reference: a folder, or `models:/NAME@ALIAS`.
        tracking: where the registry is.

    Raises:
        MissingFileError: there is no such model.
        DamagedFileError: a file of it is not as it was written.
    """
    folder = model_registry.resolve(reference, tracking)
    known: dict[str, Any] = {"reference": reference, "checksum": model_checksum(folder)}
    if model_registry.is_registered(reference):
        known |= facts(model_registry.version(reference, tracking))
    values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return known | {key: values[key] for key in ("pelagos", "network", "signature", "domains", "history")}


def differences(first: str, second: str, tracking: TrackingConfig) -> dict[str, tuple[Any, Any]]:
    """What differs between two models, by dotted key; raises as `description` does.

    Weights are told by their names: shapes where these differ, else the norm of the difference over that of the first.
    """
    folders = [model_registry.resolve(reference, tracking) for reference in (first, second)]
    for folder in folders:
        model_checksum(folder)
    texts = [json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")) for folder in folders]
    ours, theirs = (
        flatten({key: text[key] for key in ("network", "signature", "domains", "history")}) for text in texts
    )
    found = {
        key: (ours.get(key, _ABSENT), theirs.get(key, _ABSENT))
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key, _ABSENT) != theirs.get(key, _ABSENT)
    }
    return found | dict(_weight_differences(*folders))


def _weight_differences(first: Path, second: Path) -> Iterator[tuple[str, tuple[Any, Any]]]:
    ours, theirs = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    for name in dict.fromkeys((*ours, *theirs)):
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
            shapes = [list(state[name].shape) if name in state else _ABSENT for state in (ours, theirs)]
            yield f"weights.{name}", (shapes[0], shapes[1])
        elif not torch.equal(ours[name], theirs[name]):
            norm, change = (float(t.double().norm()) for t in (ours[name], theirs[name] - ours[name]))
            yield f"weights.{name}", (f"norm {norm:.4g}", f"differs by {change:.3g}")


def describe_differences(found: Mapping[str, tuple[Any, Any]]) -> str:
    """A line for each difference."""
    if not found:
        return "the same network, data, history and weights"
    return "\n".join(f"{key}: {ours} -> {theirs}" for key, (ours, theirs) in found.items())


def verify(reference: str, tracking: TrackingConfig) -> list[str]:
    """Compare every byte of models with what was registered, and load them; returns their names.

    Args:
        reference: a folder, `models:/NAME@ALIAS`, or `models:/NAME` for all versions of a model.
        tracking: where the registry is.

    Raises:
        MissingFileError: there is no such model.
        DamagedFileError: lists the models that are not as they were registered, and the first fault of each.
    """
    checked, damaged = _verified(reference, tracking), []
    for one in checked:
        try:
            model_folder.load(model_registry.resolve(one, tracking))
        except (DamagedFileError, MissingFileError) as error:
            damaged.append(f"  {one}: {error}")
    if damaged:
        listed = "\n".join(damaged)
        raise DamagedFileError(f"{len(damaged)} of {len(checked)} model(s) are damaged\n{listed}")
    return checked


def _verified(reference: str, tracking: TrackingConfig) -> list[str]:
    """The models that a reference stands for."""
    name = reference.removeprefix("models:/")
    if not model_registry.is_registered(reference) or {"@", "/"} & set(name):
        return [reference]
    return [version.reference for version in model_registry.versions(tracking, name)]
