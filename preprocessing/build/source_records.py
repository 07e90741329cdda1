"""SourceRecord: which files a store was built from, and with which software."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pelagos
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.safety.credentials import redacted
from pelagos.preprocessing.sources.arrays import zarr_array
from pelagos.preprocessing.sources.arrays.hdf5_links import linked_files


@dataclass(frozen=True)
class SourceRecord:
    """One file or folder that was read.

    Attributes:
        path: the path or URL as the source gave it.
        bytes: size of the file or of all files in the folder; -1 for what is not on this machine.
        modified: latest time of modification [ns].
        changed: latest time of a change of content or status [ns], which no program can set; 0 where it is not known.
        sha256: digest of the content, for a folder of its sorted names and contents; empty if not asked for, or on
            a server.
        metadata_sha256: digest of the metadata of a Zarr group on a server; empty otherwise.
    """

    path: str
    bytes: int
    modified: int
    sha256: str = ""
    metadata_sha256: str = ""
    changed: int = 0

    def published(self) -> dict[str, Any]:
        """What the finished store records: nothing that differs between copies of the file."""
        told = {"path": redacted(self.path), "bytes": self.bytes, "sha256": self.sha256}
        return told | ({"metadata_sha256": self.metadata_sha256} if self.metadata_sha256 else {})

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON."""
        return asdict(self)


def record_sources(paths: Iterable[str]) -> list[SourceRecord]:
    """Sizes and times of files and folders and of the files that these link to, without checksums."""
    # A source may name a file once for each of its fields.
    named = list(dict.fromkeys(paths))
    linked = (str(other) for path in named for other in linked_files(Path(path)))
    return [record_source(path) for path in dict.fromkeys([*named, *linked])]


def record_source(path: str) -> SourceRecord:
    """Size and times of one file or folder, without checksum."""
    stats = [file.stat() for file in _files(Path(path))]
    if not stats:
        # The content would have to be fetched a second time; values that change under the same metadata go unseen.
        return SourceRecord(path, bytes=-1, modified=0, metadata_sha256=zarr_array.fingerprint(path))
    return SourceRecord(
        path,
        bytes=sum(s.st_size for s in stats),
        modified=max(s.st_mtime_ns for s in stats),
        changed=max(s.st_ctime_ns for s in stats),
    )


def changed_sources(before: Iterable[SourceRecord], now: Iterable[SourceRecord]) -> list[str]:
    """The paths of sources whose content is not, or may not be, what it was.

    Args:
        before: with checksums where there are any: what was only touched or copied is read again, and is the same.
        now: sizes and times.
    """
    old, new = ({record.path: record for record in records} for records in (before, now))
    return sorted(
        path for path in {*old, *new} if path not in old or path not in new or _differs(old[path], new[path])
    )


def _differs(old: SourceRecord, new: SourceRecord) -> bool:
    if (old.bytes, old.metadata_sha256) != (new.bytes, new.metadata_sha256):
        return True
    # Records of unfinished builds of an earlier version have no time of change.
    known = 0 not in (old.changed, new.changed)
    if old.modified == new.modified and (old.changed == new.changed or not known):
        return False
    return not old.sha256 or with_checksum(new).sha256 != old.sha256


def with_checksum(record: SourceRecord) -> SourceRecord:
    """The same record with the SHA-256 of the source, which reads it; of what is on a server, as it was."""
    if record.bytes < 0:
        return record
    path = Path(record.path)
    if path.is_file():
        return replace(record, sha256=durable.sha256(path))
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path)}\0{durable.sha256(file)}\n".encode())
    return replace(record, sha256=digest.hexdigest())


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(_walk(path, set()))


def _walk(folder: Path, above: set[Path]) -> Iterator[Path]:
    """All files below a folder; links to folders are followed, but not round in circles."""
    if not folder.is_dir() or (real := folder.resolve()) in above:
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, above | {real})
        elif entry.is_file():
            yield entry


def software() -> dict[str, str]:
    """The versions of the packages that take part in a build."""
    packages = ("numpy", "xarray", "zarr", "numcodecs")
    return {"pelagos": pelagos.__version__, **{name: version(name) for name in packages}}
