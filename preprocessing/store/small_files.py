"""Small files: everything of a store but its shards, read at once, compared with the manifest and decoded."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.files.durable import Checksum
from pelagos.preprocessing.files.location import Url, read_all
from pelagos.preprocessing.store.manifest import MANIFEST, Manifest, read_manifest

_SHARDED = ("state/c/", "static/c/")  # shards, which are checked when they are opened
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


def read_small_arrays(
    path: Path | Url, names: list[str], held: Mapping[str, bytes] | None = None
) -> dict[str, NDArray[Any]]:
    """Arrays of a group by name, each of one chunk.

    Args:
        path: the group's path or URL.
        names: the arrays' names.
        held: the contents of files that have been read already, by path in the group.

    Raises:
        DamagedFileError: a file of one is missing or damaged.
    """
    # All files of a kind are asked for at once, since on a server each request takes a round trip.
    held = held or {}
    metadata = _read(path, [f"{name}/zarr.json" for name in names], held)
    keys = [_chunk_key(path, name, text) for name, text in zip(names, metadata, strict=True)]
    values = {}
    for name, text, key, content in zip(names, metadata, keys, _read(path, keys, held), strict=True):
        # From memory, since zarr-python would take a missing chunk for zeros.
        array: dict[str, Buffer] = {
            "zarr.json": cpu.Buffer.from_bytes(text),
            key.removeprefix(f"{name}/"): cpu.Buffer.from_bytes(content),
        }
        try:
            values[name] = np.asarray(zarr.open_array(MemoryStore(array), mode="r")[...])
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(
                f"{path / name}: cannot be read: {error}; `pelagos repair` mends the store"
            ) from error
    return values


def _chunk_key(path: Path | Url, name: str, metadata: bytes) -> str:
    try:
        dims = len(json.loads(metadata)["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path / name}/zarr.json: damaged: {error}; `pelagos repair` mends the store"
        ) from error
    return "/".join((name, "c", *["0"] * dims))


def _read(path: Path | Url, names: list[str], held: Mapping[str, bytes]) -> list[bytes]:
    found, missing = dict(held), [name for name in names if name not in held]
    for name, content in zip(missing, read_all([path / name for name in missing]), strict=True):
        if content is None:
            raise DamagedFileError(f"{path / name}: missing; `pelagos repair` mends the store")
        found[name] = content
    return [found[name] for name in names]
