"""Small files: everything of a store but its shards, read at once and compared with the manifest."""

import logging
from pathlib import Path

import google_crc32c

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.files.durable import Checksum
from pelagos.preprocessing.files.location import Url, read_all
from pelagos.preprocessing.store.manifest import MANIFEST, Manifest, read_manifest

_SHARDED = ("state/c/", "static/c/")
_log = logging.getLogger(__name__)


def manifest_of(path: Path | Url) -> Manifest | None:
    """The manifest of a store; None, with a word, where a copy was made without it.

    Raises:
        DamagedFileError: it fails its own checksum.
    """
    try:
        return read_manifest(path)
    except MissingFileError:
        _log.warning("%s has no %s: no file of it is checked", path, MANIFEST)
        return None


def read_small_files(path: Path | Url, manifest: Manifest) -> dict[str, bytes]:
    """The contents of all files but the shards, by path in the store: metadata, coordinates, splits, statistics, mask.

    Raises:
        DamagedFileError: one is missing, or not as it was written.
    """
    names = sorted(name for name in manifest.files if not name.startswith(_SHARDED))
    contents = {}
    # All at once, since on a server each request takes a round trip.
    for name, content in zip(names, read_all([path / name for name in names]), strict=True):
        if content is None:
            raise DamagedFileError(f"{path / name}: missing; `pelagos repair` mends the store")
        if wrong := _fault(content, manifest.files[name]):
            raise DamagedFileError(
                f"{path / name}: {wrong}; `pelagos repair` mends the store. If another tool has rewritten it on"
                f" purpose, remove its {MANIFEST}, which is out of date"
            )
        contents[name] = content
    return contents


def shard_files(manifest: Manifest, array: str) -> dict[str, Checksum]:
    """The checksums of an array's shards, by path in the array's folder."""
    prefix = f"{array}/"
    return {
        name.removeprefix(prefix): checksum
        for name, checksum in manifest.files.items()
        if name.startswith(f"{prefix}c/")
    }


def _fault(content: bytes, expected: Checksum) -> str:
    """What is wrong with a file, in words; empty if nothing is."""
    if len(content) != expected.bytes:
        return f"{len(content)} bytes where {expected.bytes} were written"
    if (found := f"{google_crc32c.value(content):08x}") != expected.crc32c:
        return f"CRC-32C {found} where {expected.crc32c} was written"
    return ""
