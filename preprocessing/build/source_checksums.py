"""Checksums of the sources of a build: each is computed once, by whoever works on the build, and kept."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pelagos.preprocessing.build.source_records import (
    SourceRecord,
    changed_sources,
    record_source,
    with_checksum,
)
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files import durable

SOURCES = Path("_build", "sources")
"""Where a growing store keeps the records of the sources whose checksums are known, one file each."""
EARLIER = Path("_build", "sources.json")
"""Where earlier versions kept all of them."""


def known_checksums(root: Path) -> dict[str, SourceRecord]:
    """The records with checksums that a growing store keeps, by the path of the source."""
    file = root / EARLIER
    values = json.loads(file.read_bytes()) if file.exists() else []
    values += [json.loads(one.read_bytes()) for one in sorted((root / SOURCES).glob("*.json"))]
    return {record.path: record for record in (SourceRecord(**one) for one in values)}


def without_checksum(root: Path, sources: Iterable[SourceRecord]) -> list[SourceRecord]:
    """The records of those sources whose checksums are not known yet."""
    known = known_checksums(root)
    return [record for record in sources if record.path not in known]


def keep_checksum(root: Path, record: SourceRecord) -> None:
    """Compute the checksum of a source and keep it.

    Args:
        root: the folder in which the store grows.
        record: of the source, without checksum, from before a byte of it was read.

    Raises:
        DataError: the source is no longer what the record says.
    """
    known = with_checksum(record)
    # Afterwards: so that the content is that of the record, and not of a file that has taken its place since.
    if changed_sources([record], [record_source(record.path)]):
        raise DataError(f"{root}: {record.path} changed while it was read; begin again with overwrite=true")
    name = hashlib.sha256(record.path.encode()).hexdigest()[:32]
    file = root / SOURCES / f"{name}.json"
    durable.make_folder(file.parent)
    durable.write_bytes(file, json.dumps(known.to_json()).encode())


def keep_checksums(root: Path, sources: Sequence[SourceRecord]) -> None:
    """Do so for those of the sources whose checksums are not known yet.

    Raises:
        DataError: a source is no longer what its record says.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases Python's lock
        for _ in pool.map(lambda record: keep_checksum(root, record), without_checksum(root, sources)):
            pass
