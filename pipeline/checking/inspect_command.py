"""The command `inspect`: one description of whatever lies at a path."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pelagos.pipeline.checking.output_text import describe_output
from pelagos.pipeline.runs.configuration import apply_overrides, validate
from pelagos.pipeline.stages.build import BuildStage
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.inspection import inspect_path
from pelagos.preprocessing.inspection.proposal import proposal_of
from pelagos.preprocessing.store.store import store_location

_OF_OUTPUTS = (
    "model.json",
    "state.json",
    "run.json",
    "lead_time",
    "latest.json",
    "config.json",
    "seed*/run.json",
)
"""Names in the folders of a model, a checkpoint, a run, a forecast, a run's checkpoints, a published model, seeds."""


def inspected(path: str, overrides: Sequence[str], tracking: TrackingConfig, *, as_json: bool) -> str:
    """A description of what is at a path, as text or JSON.

    Args:
        path: of a store, a model, a run, runs of several seeds, a checkpoint, a forecast or an archive, or
            `models:/NAME@ALIAS`.
        overrides: `key=value` texts of the configuration to build an archive.
        tracking: where the registry is.
        as_json: whether to describe it for programs; docs/own-data.md lists the keys.

    Raises:
        ConfigError: an override is no key of that configuration, or what is there takes none.
        PelagosError: nothing is there, or it is damaged or unknown.
    """
    folder = Path(path).expanduser()
    if path.startswith("models:/") or any(any(folder.glob(name)) for name in _OF_OUTPUTS):
        # Loads torch, which a look at an archive need not wait for.
        from pelagos.pipeline.checking.output_facts import output_facts

        if known := output_facts(path, tracking):
            _refuse(overrides, path, known["type"])
            return _json(known) if as_json else describe_output(known)
    if not overrides:
        return _json(inspect_path.facts(path)) if as_json else inspect_path.inspect(path)
    if inspect_path.is_store(store_location(path)):
        _refuse(overrides, path, "store")
    proposal = proposal_of(path, apply_overrides({}, overrides))
    if not proposal.ask:
        validate(proposal.values, BuildStage, path)
    return _json(proposal.facts()) if as_json else proposal.text().rstrip("\n")


def _refuse(overrides: Sequence[str], path: str, kind: str) -> None:
    if overrides:
        raise ConfigError(
            f"{path} is a {kind}; KEY=VALUE, such as {overrides[0]}, is for archives to be built"
        )


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, default=str)
