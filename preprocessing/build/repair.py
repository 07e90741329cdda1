"""Repairing a store: damaged files are built again, and taken only if they are byte for byte what they were."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import recorded
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.group_writer import write_attributes, write_skeleton, write_statistics
from pelagos.preprocessing.build.partition import Part
from pelagos.preprocessing.build.plan import Plan, make_plan
from pelagos.preprocessing.build.source_records import SourceRecord
from pelagos.preprocessing.build.store_coding import StoreCoding
from pelagos.preprocessing.build.write_part import PROGRESS, measure_part, shard_files, write_part
from pelagos.preprocessing.channel_statistics.measures import Measures, merge_measures
from pelagos.preprocessing.errors import ConfigError, DataError, MissingFileError
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.safety.trust import require_trust
from pelagos.preprocessing.store.coded_reader import CodedReader
from pelagos.preprocessing.store.coding import Coding
from pelagos.preprocessing.store.frame_reader import FrameReader
from pelagos.preprocessing.store.manifest import MANIFEST, Manifest, read_manifest, verify
from pelagos.preprocessing.store.shard_layout import ShardLayout
from pelagos.preprocessing.store.shard_reader import ShardReader


def repair(path: Path | Url, moved: Mapping[str, str] | None = None) -> list[str]:
    """Rebuild the damaged and missing files of a store from its sources, and nothing else.

    Args:
        path: of the store.
        moved: where sources are now, by where the store says that they are: files, or folders that hold them.

    Returns:
        The paths in the store of the files that were replaced.

    Raises:
        ConfigError: the store is on a server, or was built from nothing at a place that is said to have moved.
        MissingFileError: a source is neither where it was nor said to be elsewhere.
        DamagedFileError: the manifest itself is damaged, or a source cannot be read.
        DataError: the sources are no longer those of the store.
        UntrustedCodeError: the manifest names a class that reads the sources, and the user has not.
    """
    if isinstance(path, Url):
        raise ConfigError(f"{path}: a store on a server can only be read; repair the copy that it came from")
    # Files that the manifest does not know are somebody else's and stay.
    damaged = {damage.path for damage in verify(path) if damage.kind != "unexpected"}
    if not damaged:
        return []
    manifest = read_manifest(path)
    plan = _plan_of(path, manifest, moved or {})
    # Beside the store: files are moved into it by a rename, which is atomic within one file system.
    scratch = path.with_name(f"{path.name}.repairing")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        (scratch / PROGRESS).mkdir(parents=True)
        coding = StoreCoding.from_json(manifest.coding) if manifest.coding else None
        if coding is not None:
            coding.write(scratch)
        for part in plan.parts:
            if mine := damaged & set(shard_files(plan, part)):
                write_part(scratch, plan, part)
                _move_into_store(scratch, path, mine, manifest)
        shards = {name for part in plan.parts for name in shard_files(plan, part)}
        if others := damaged - shards:
            _write_group(scratch, path, plan, manifest, coding)
            _move_into_store(scratch, path, others, manifest)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sorted(damaged)


def _plan_of(path: Path, manifest: Manifest, moved: Mapping[str, str]) -> Plan:
    require_trust(manifest.config, path / MANIFEST)
    config = BuildConfig.model_validate(manifest.config)
    # What the store records stays: only the reading goes elsewhere.
    there = {**manifest.config, "source": _moved(path, manifest.config["source"], moved)}
    source = BuildConfig.model_validate(there).source
    # The fingerprint says which of the two ways of cutting chunks the store was written with.
    for cut_rows in (True, False):
        try:
            plan = make_plan(config, cut_rows=cut_rows, source=source)
        except MissingFileError as error:
            raise MissingFileError(
                f"{error}; if it is elsewhere now, say so: pelagos repair {path} --source OLD=NEW"
            ) from error
        if plan.fingerprint == manifest.fingerprint:
            return plan
    raise DataError(f"{path}: cannot be repaired: its sources no longer have the data that it was built from")


def _moved(path: Path, source: Any, moved: Mapping[str, str]) -> Any:
    """A source's configuration with the paths in it where they are now."""
    used: set[str] = set()

    def follow(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: follow(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [follow(one) for one in value]
        for old, new in moved.items():
            place = old.rstrip("/")
            if isinstance(value, str) and (value == place or value.startswith(f"{place}/")):
                used.add(old)
                return new.rstrip("/") + value[len(place) :]
        return value

    followed = follow(source)
    if unused := [old for old in moved if old not in used]:
        raise ConfigError(
            f"{path} was not built from {unused[0]}, but from {source.get('paths', source)}; --source takes OLD=NEW,"
            " where OLD is a path in it or the beginning of one"
        )
    return followed


def _move_into_store(scratch: Path, path: Path, names: set[str], manifest: Manifest) -> None:
    """Move files into the store if they have the recorded checksums."""
    for name in sorted(names):
        if durable.checksum(scratch / name) != manifest.files[name]:
            raise DataError(
                f"{path / name}: cannot be repaired: built again, it differs, so its sources have changed"
            )
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).replace(path / name)
        durable.sync_directory((path / name).parent)


def _write_group(
    scratch: Path, path: Path, plan: Plan, manifest: Manifest, coding: StoreCoding | None
) -> None:
    """Write metadata, coordinates and statistics again, the latter from the store's own shards."""
    write_skeleton(scratch, plan, coding)
    measures = merge_measures(_measures(path, plan, part, coding) for part in plan.parts)
    sources = [SourceRecord(modified=0, **record) for record in manifest.sources]
    cut_mask = (
        manifest.files["mask/c/0/0/0"].bytes > measures.mask.nbytes
    )  # by the index of a shard: the mask is cut
    write_statistics(scratch, plan, measures, cut_mask=cut_mask)
    # As they were found when it was built: some are of values, which are not all read again.
    assumptions = recorded(manifest.assumptions)
    rounding, num_missing = np.array(manifest.rounding), measures.num_missing
    write_attributes(scratch, plan, sources, rounding, num_missing, assumptions, manifest.coding)
    durable.sync_tree(scratch)


def _measures(path: Path, plan: Plan, part: Part, coding: StoreCoding | None) -> Measures:
    state = _reader(path / "state", plan.state, coding.state if coding else None)
    rows, (start, stop) = range(*part.trajectories), part.times
    block = np.empty((len(rows), stop - start, *plan.state.frame), np.float32)
    before = np.empty((len(rows) if start else 0, 1, *plan.state.frame), np.float32)
    for n, row in enumerate(rows):
        state.read_frames((row, start), block[n])
        if start:
            state.read_frames((row, start - 1), before[n])
    return measure_part(plan, part, block, _static(path, plan, part, coding), before)


def _reader(path: Path, layout: ShardLayout, coding: Coding | None) -> FrameReader:
    raw = ShardReader(path, layout)
    return raw if coding is None else CodedReader(raw, coding)


def _static(path: Path, plan: Plan, part: Part, coding: StoreCoding | None) -> NDArray[np.float32]:
    cell = plan.static_cell(part)
    if cell is None:
        return np.empty((0, *plan.static.frame), np.float32)
    fields = np.empty(plan.static.block_shape(cell), np.float32)
    reader = _reader(path / "static", plan.static, coding.static if coding else None)
    first = cell[0] * plan.static.shard[0]
    for n, frame in enumerate(fields):
        reader.read_frame((first + n,), [frame])
    return fields
