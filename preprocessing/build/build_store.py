"""Building a store from its configuration, on any number of workers and however often interrupted."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pelagos.preprocessing.assumptions import require_answers
from pelagos.preprocessing.build import duplicate_starts
from pelagos.preprocessing.build.all_assumptions import all_assumptions
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.group_writer import write_attributes, write_skeleton, write_statistics
from pelagos.preprocessing.build.plan import Plan, make_plan, with_survey
from pelagos.preprocessing.build.source_records import (
    SourceRecord,
    changed_sources,
    record_sources,
    with_checksums,
)
from pelagos.preprocessing.build.workers import Progress, write_parts
from pelagos.preprocessing.build.write_part import (
    PLAN,
    PROGRESS,
    PartRecord,
    read_record,
    recorded_initial_digests,
)
from pelagos.preprocessing.channel_statistics.measures import merge_measures
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.files.durable import LockedError
from pelagos.preprocessing.store.manifest import Manifest, files_of, read_manifest
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.store_lease import replacing_store

SOURCES = Path("_build", "sources.json")
"""Where a growing store records the checksums of its sources."""
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
    # Shares of one build work side by side; a build on its own excludes all others.
    with durable.lock(lock, shared=count > 1):
        if _is_complete(config):  # finished by whoever held the lock until now
            return config.path
        plan = make_plan(
            config, initial_digests=() if config.overwrite else recorded_initial_digests(building, config)
        )
        plan = _surveyed(plan)
        require_answers(plan.assumptions, config.accept, strict=config.strict)
        sources = _prepare(building, plan)
        if config.checksum_sources and position == 0:
            sources = _fingerprint(building, sources)
        write_parts(building, plan, range(position, len(plan.parts), count), progress)
        if count == 1:
            return _complete(building, plan, sources)
    return _complete_if_last(lock, building, plan, sources)


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
    _tidy(config.path)
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


def _fingerprint(building: Path, sources: list[SourceRecord]) -> list[SourceRecord]:
    """The same records with checksums, which are kept in the folder: what is about to be read has this content."""
    if (known := _fingerprinted(building)) is None:
        known = with_checksums(sources)
        durable.write_bytes(building / SOURCES, json.dumps([record.to_json() for record in known]).encode())
    return known


def _fingerprinted(building: Path) -> list[SourceRecord] | None:
    """The sources with their checksums as a build began with them; None where they have not been computed."""
    file = building / SOURCES
    if not file.exists():
        return None
    return [SourceRecord(**values) for values in json.loads(file.read_bytes())]


def _start(building: Path, plan: Plan, sources: list[SourceRecord]) -> None:
    # Made under another name: shares that start together never see half a group, and one of them wins.
    folder = Path(tempfile.mkdtemp(prefix=f".{building.name}.", dir=building.parent))
    try:
        write_skeleton(folder, plan)
        (folder / PROGRESS).mkdir(parents=True)
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
    before = _fingerprinted(building) or [SourceRecord(**values) for values in earlier["sources"]]
    if changed := changed_sources(before, sources):
        return f"{changed[0]} has changed since"
    # Same options and files, so another version of Pelagos would cut or name the data otherwise.
    return "" if earlier["fingerprint"] == plan.fingerprint else "the layout of its data"


def _complete_if_last(lock: Path, building: Path, plan: Plan, sources: list[SourceRecord]) -> Path:
    """Complete the store unless other shares of the build are at work or still to come."""
    try:
        with durable.lock(lock):
            if plan.config.path.exists():
                return plan.config.path
            missing = sum(read_record(building, plan, part) is None for part in plan.parts)
            if not missing:
                return _complete(building, plan, sources)
            _log.info("%s: %d shards are left to other shares of the build", building, missing)
    except LockedError:
        _log.info("%s: other shares of the build are at work; the last one completes the store", building)
    return building


def _complete(building: Path, plan: Plan, sources: list[SourceRecord]) -> Path:
    """Write statistics, attributes and manifest, then give the store its name."""
    path = plan.config.path
    if plan.config.checksum_sources:
        # Where shares that ended before did not: the times below say whether that is what was read.
        sources = _fingerprint(building, sources)
    if changed := changed_sources(sources, record_sources(plan.fields.files_read)):
        raise DataError(
            f"{building}: {changed[0]} changed while it was read; begin again with overwrite=true"
        )
    part_records = [
        part_record for part in plan.parts if (part_record := read_record(building, plan, part)) is not None
    ]
    assert len(part_records) == len(plan.parts)
    # Records of an early version have no digests; then nothing can be said about duplicates.
    digests = [digest for part_record in part_records for digest in part_record.initial_digests]
    if len(digests) == len(plan.codes) and (leak := duplicate_starts.duplicate_warning(digests, plan.codes)):
        _log.warning("%s: %s", path, leak)
    if not plan.training.any():
        _log.warning(
            "%s: no frame trains, so there are no statistics of what depends on time; see splits", path
        )
    _write_results(building, plan, part_records, sources)
    # Everything is on disk before the name says that it is; the old store goes last.
    durable.sync_tree(building)
    with replacing_store(path):
        if path.exists():
            path.rename(path.with_name(f"{path.name}.replaced"))
        building.rename(path)
    durable.sync_directory(path.parent)
    _tidy(path)
    return path


def _write_results(
    building: Path, plan: Plan, part_records: list[PartRecord], sources: list[SourceRecord]
) -> None:
    measures = merge_measures([part_record.measures for part_record in part_records])
    assumptions = all_assumptions(plan, part_records, measures)
    # Some are seen only when all values are known.
    require_answers(assumptions, plan.config.accept, strict=plan.config.strict)
    rounding = np.max([part_record.rounding for part_record in part_records], axis=0)
    # Before the manifest lists all files.
    durable.remove_partials(building)
    write_statistics(building, plan, measures)
    write_attributes(building, plan, sources, rounding, measures.num_missing, assumptions)
    shards = {path: value for part_record in part_records for path, value in part_record.files.items()}
    others = sorted(files_of(building) - set(shards))
    Manifest(
        fingerprint=plan.fingerprint,
        config=plan.config.content(),
        files=shards | {name: durable.checksum(building / name) for name in others},
        rounding=rounding.tolist(),
        sources=[record.published() for record in sources],
        assumptions=[one.to_json() for one in assumptions],
    ).write(building)


def _tidy(path: Path) -> None:
    """Remove what only the build needed, and what interrupted builds left behind."""
    left = [path.with_name(f"{path.name}.replaced"), *path.parent.glob(f".{path.name}.building.*")]
    for folder in (path / PROGRESS, *left):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (path / PLAN, path / SOURCES):
        try:
            # Asked for first: on a read-only disk, deleting even what is not there is an error.
            if file.exists():
                file.unlink()
        except OSError as error:
            # The store is complete with it, too.
            _log.warning("%s: a leftover of the build stays: %s", file, error.strerror)
