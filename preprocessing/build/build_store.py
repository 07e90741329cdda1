"""Building a store from its configuration, on any number of workers and however often interrupted."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pelagos.preprocessing.assumptions import require_answers
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.complete_store import complete_if_last, complete_store, share_of, tidy
from pelagos.preprocessing.build.group_writer import write_skeleton
from pelagos.preprocessing.build.plan import Plan, make_plan, with_survey
from pelagos.preprocessing.build.source_checksums import known_checksums
from pelagos.preprocessing.build.source_records import SourceRecord, changed_sources, record_sources
from pelagos.preprocessing.build.store_coding import StoreCoding
from pelagos.preprocessing.build.workers import Progress, write_parts
from pelagos.preprocessing.build.write_part import PLAN, PROGRESS, recorded_initial_digests
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.store_lease import replacing_store

_log = logging.getLogger(__name__)


def _silent(done: int, num: int) -> None:
    """Show no progress."""


def build(config: BuildConfig, progress: Progress = _silent) -> Path:
    """Build a store, or continue a build that was interrupted.

    Args:
        config: what to build.
        progress: called with the numbers of complete shards and of all shards, of this share of the build.

    Returns:
        The store; or, for a share that was not the last to end, the folder in which the store grows.

    Raises:
        ConfigError: an option contradicts the data, a question is open, or a store of this version has other content.
        DataError: the source has a value that may not be stored, the source changed, or another build runs.
        LockedError: the store to replace is open for reading.
        DamagedFileError: the source cannot be read; finished shards are kept.
    """
    if _is_complete(config):
        _log.info("%s: already built", config.path)
        return config.path
    position, count = config.share
    if position >= count or (count > 1 and config.overwrite):
        raise ConfigError(
            f"part: {config.part} must be one of 1/{count} to {count}/{count}, without overwrite=true: "
            "a share cannot replace what the others write"
        )
    if config.overwrite:
        # Before hours of work; it is asked again when the store is replaced.
        with replacing_store(config.path):
            pass
    _make_folder(config.path.parent)
    lock = config.path.with_name(f".{config.path.name}.lock")
    building = config.path.with_name(f"{config.path.name}.building")
    with share_of(lock) if count > 1 else durable.lock(lock):
        if _is_complete(config):  # finished by whoever held the lock until now
            return config.path
        plan = make_plan(
            config, initial_digests=() if config.overwrite else recorded_initial_digests(building, config)
        )
        plan = _surveyed(plan)
        require_answers(plan.assumptions, config.accept, strict=config.strict)
        sources = _prepare(building, plan)
        hashed = sources[position::count] if config.checksum_sources else []
        write_parts(building, plan, range(position, len(plan.parts), count), progress, hashed)
        if count == 1:
            return complete_store(building, plan, sources)
    return complete_if_last(lock, building, plan, sources)


def _surveyed(plan: Plan) -> Plan:
    try:
        return with_survey(plan)
    except DamagedFileError:
        # The build meets the same error in its turn, and keeps the shards before it.
        return plan


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"root: cannot create {folder}: {error.strerror}") from error


def _is_complete(config: BuildConfig) -> bool:
    if config.overwrite or not config.path.exists():
        return False
    found = read_manifest(config.path).config
    if not config.makes(found):
        raise ConfigError(
            f"{config.path}: built with another configuration ({_difference(found, config.content())}); "
            "give the new store another version, or replace this one by overwrite=true"
        )
    if config.strict:
        _require_recorded_answers(config)
    tidy(config.path)
    return True


def _require_recorded_answers(config: BuildConfig) -> None:
    """Refuse a complete store by what it records, as its build would have been refused."""
    found = open_store(config.path).assumptions
    if found is None:
        raise ConfigError(
            f"strict: {config.path} does not record what its build assumed: a version of Pelagos wrote it that"
            " recorded nothing; build it again with overwrite=true"
        )
    require_answers(found, config.accept, strict=True)


def _difference(old: Any, new: Any) -> str:
    changes = [f"{path}: {before!r} there, {after!r} here" for path, before, after in _changes(old, new)]
    return "; ".join(changes[:3]) + ("; ..." if len(changes) > 3 else "")


def _changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _changes(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
    elif old != new:
        yield path, old, new


def _prepare(building: Path, plan: Plan) -> list[SourceRecord]:
    """Create the folder in which the store grows, or check that an existing one is of the same plan."""
    sources = record_sources(plan.fields.files_read)
    if plan.config.overwrite and building.exists() and _disagreement(building, plan, sources):
        shutil.rmtree(building)
    if not building.exists():
        _start(building, plan, sources)
    if reason := _disagreement(building, plan, sources):
        raise DataError(
            f"{building}: this unfinished build differs: {reason}; restore what it was begun with, "
            "or overwrite=true to begin again"
        )
    return sources


def _start(building: Path, plan: Plan, sources: list[SourceRecord]) -> None:
    # Made under another name: shares that start together never see half a group, and one of them wins.
    folder = Path(tempfile.mkdtemp(prefix=f".{building.name}.", dir=building.parent))
    try:
        coding = StoreCoding.drawn(plan)
        write_skeleton(folder, plan, coding)
        (folder / PROGRESS).mkdir(parents=True)
        if coding is not None:
            coding.write(folder)
        values = {
            "fingerprint": plan.fingerprint,
            "config": plan.config.content(),
            "sources": [record.to_json() for record in sources],
            "beginnings": plan.initial_digests,
        }
        durable.write_bytes(folder / PLAN, json.dumps(values).encode())
        folder.chmod(0o755)  # mkdtemp gives 0o700, and others must read the store
        folder.rename(building)
    except OSError:
        # Another share of the same build may have been quicker; it made the same folder.
        if not building.exists():
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _disagreement(building: Path, plan: Plan, sources: list[SourceRecord]) -> str:
    """How an unfinished build differs from this plan; empty if it does not."""
    earlier = json.loads((building / PLAN).read_bytes())
    if not plan.config.makes(earlier["config"]):
        return f"its configuration ({_difference(earlier['config'], plan.config.content())})"
    known = known_checksums(building)
    begun = (SourceRecord(**values) for values in earlier["sources"])
    before = [known.get(record.path, record) for record in begun]
    if changed := changed_sources(before, sources):
        return f"{changed[0]} has changed since"
    # Same options and files, so another version of Pelagos would cut or name the data otherwise.
    return "" if earlier["fingerprint"] == plan.fingerprint else "the layout of its data"
