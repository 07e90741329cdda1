"""Completing a store: statistics, attributes and manifest from the records of its parts, and at last its name."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pelagos.preprocessing.assumptions import require_answers
from pelagos.preprocessing.build import duplicate_starts
from pelagos.preprocessing.build.all_assumptions import all_assumptions
from pelagos.preprocessing.build.group_writer import write_attributes, write_statistics
from pelagos.preprocessing.build.part_totals import PartTotals
from pelagos.preprocessing.build.plan import Plan
from pelagos.preprocessing.build.source_checksums import EARLIER, SOURCES, keep_checksums, known_checksums
from pelagos.preprocessing.build.source_records import SourceRecord, changed_sources, record_sources
from pelagos.preprocessing.build.store_coding import CODING, read_coding, recorded_rounding
from pelagos.preprocessing.build.write_part import PLAN, PROGRESS, PartRecord, num_recorded, read_record
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.files.durable import LockedError, remove_tree
from pelagos.preprocessing.store.manifest import SHARD_FOLDERS, Manifest, files_beside_shards
from pelagos.preprocessing.store.store_lease import replacing_store

_COMPLETION = (
    3600.0  # seconds to wait for another share that completes the store: minutes at 1.5 million shards
)
_log = logging.getLogger(__name__)


def complete_if_last(lock: Path, building: Path, plan: Plan, sources: list[SourceRecord]) -> Path:
    """Complete the store unless other shares of the build are at work or still to come.

    Args:
        lock: the lock of the build, which this share no longer holds.
        building: the folder in which the store grows.
        plan: of the build.
        sources: as they were before this share read them.

    Returns:
        The store, or the folder in which it grows.
    """
    # One by one: of two shares that end together, each would else take the other's look for work.
    with durable.lock(_completion_lock(lock), patience=_COMPLETION):
        try:
            with durable.lock(lock):
                if plan.config.path.exists():
                    return plan.config.path
                missing = len(plan.parts) - num_recorded(building)
                if missing <= 0:
                    return complete_store(building, plan, sources)
                _log.info("%s: %d shards are left to other shares of the build", building, missing)
        except LockedError:
            _log.info("%s: other shares of the build are at work; the last one completes the store", building)
    return building


@contextmanager
def share_of(lock: Path) -> Iterator[None]:
    """Hold a share of a build's lock, by which shares work side by side and a build on its own excludes all others.

    Raises:
        LockedError: a build on its own is at work.
    """
    with ExitStack() as held:
        # Whoever completes the store, or looks whether to, has the lock alone for that time.
        with durable.lock(_completion_lock(lock), patience=_COMPLETION):
            held.enter_context(durable.lock(lock, shared=True))
        yield


def _completion_lock(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.completing")


def complete_store(building: Path, plan: Plan, sources: list[SourceRecord]) -> Path:
    """Write statistics, attributes and manifest, then give the store its name.

    Raises:
        DataError: a source has changed, or a part is not recorded.
        ConfigError: what only all values together tell is open.
        LockedError: the store to replace is open for reading.
    """
    path = plan.config.path
    if plan.config.checksum_sources:
        # Those of shares of an early version; the times say whether they are what was read.
        keep_checksums(building, sources)
        known = known_checksums(building)
        sources = [known[record.path] for record in sources]
    if changed := changed_sources(sources, record_sources(plan.fields.files_read)):
        raise DataError(
            f"{building}: {changed[0]} changed while it was read; begin again with overwrite=true"
        )
    _write_results(building, plan, sources)
    # Everything is on disk before the name says that it is; the old store goes last.
    durable.sync_tree(building, but=[building / folder for folder in (*SHARD_FOLDERS, PROGRESS, SOURCES)])
    with replacing_store(path):
        if path.exists():
            path.rename(path.with_name(f"{path.name}.replaced"))
        building.rename(path)
    durable.sync_directory(path.parent)
    tidy(path)
    return path


def _records(building: Path, plan: Plan) -> Iterator[PartRecord]:
    for part in plan.parts:
        if (record := read_record(building, plan, part)) is None:
            raise DataError(
                f"{building}: the record of shard {part.name} is gone; the same command writes it again"
            )
        yield record


def _write_results(building: Path, plan: Plan, sources: list[SourceRecord]) -> None:
    totals = PartTotals(_records(building, plan))
    _warn(plan, totals.digests)
    assumptions = all_assumptions(plan, totals.assumptions, totals.measures, totals.coding)
    # Some are seen only when all values are known.
    require_answers(assumptions, plan.config.accept, strict=plan.config.strict)
    # Before the manifest lists all files.
    durable.remove_partials(building)
    write_statistics(building, plan, totals.measures)
    coding = recorded_rounding(read_coding(building), totals.coding)
    num_missing = totals.measures.num_missing
    write_attributes(building, plan, sources, totals.rounding, num_missing, assumptions, coding)
    others = sorted(files_beside_shards(building))
    totals.files.add((name, durable.checksum(building / name)) for name in others)
    Manifest(
        fingerprint=plan.fingerprint,
        config=plan.config.content(),
        files=totals.files,
        rounding=totals.rounding.tolist(),
        sources=[record.published() for record in sources],
        assumptions=[one.to_json() for one in assumptions],
        coding=coding,
    ).write(building)


def _warn(plan: Plan, digests: list[str]) -> None:
    # Records of an early version have no digests; then nothing can be said about duplicates.
    if len(digests) == len(plan.codes) and (leak := duplicate_starts.duplicate_warning(digests, plan.codes)):
        _log.warning("%s: %s", plan.config.path, leak)
    if not plan.training.any():
        _log.warning(
            "%s: no frame trains, so there are no statistics of what depends on time; see splits",
            plan.config.path,
        )


def tidy(path: Path) -> None:
    """Remove what only the build needed, and what interrupted builds left behind."""
    left = [path.with_name(f"{path.name}.replaced"), *path.parent.glob(f".{path.name}.building.*")]
    for folder in (path / PROGRESS, path / SOURCES, *left):
        remove_tree(folder)
    for file in (path / PLAN, path / EARLIER, path / CODING):
        try:
            # Asked for first: on a read-only disk, deleting even what is not there is an error.
            if file.exists():
                file.unlink()
        except OSError as error:
            # The store is complete with it, too.
            _log.warning("%s: a leftover of the build stays: %s", file, error.strerror)
