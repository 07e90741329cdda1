"""Manifest: the size and checksums of every file of a store, and what is wrong with those on disk."""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import google_crc32c

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.files.durable import Checksum
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.store.format import FORMAT

MANIFEST = Path("_build", "manifest.json")
SHARD_FOLDERS = (Path("state", "c"), Path("static", "c"))
"""The folders in a store that hold its shards."""
_PARALLEL_FILES = 4  # of a server, each whole in memory while it is checked
_PACKED = struct.Struct("<q4s32s")  # length, CRC-32C, SHA-256: 77 bytes an entry as an object, not 350
_PIECE = 4096  # entries that are text at a time
_FIELDS = ("bytes", "crc32c", "sha256")


class ChecksumTable(Mapping[str, Checksum]):
    """Checksums by path, to which entries are only added."""

    def __init__(self, entries: Iterable[tuple[str, Checksum]] = ()) -> None:
        """A table of these entries."""
        self._packed: dict[str, bytes] = {}
        self.add(entries)

    def add(self, entries: Iterable[tuple[str, Checksum]]) -> None:
        """Add entries, or replace those of the same path."""
        for path, checksum in entries:
            self._packed[path] = pack(checksum.bytes, checksum.crc32c, checksum.sha256)

    @classmethod
    def of_packed(cls, packed: Mapping[str, bytes]) -> "ChecksumTable":
        """A table of entries as `pack` makes them.

        Raises:
            TypeError: an entry is none.
        """
        if not all(isinstance(entry, bytes) for entry in packed.values()):
            raise TypeError("a file has other entries than its bytes, crc32c and sha256")
        table = cls()
        table._packed = dict(packed)
        return table

    def __getitem__(self, path: str) -> Checksum:
        length, crc, sha = _PACKED.unpack(self._packed[path])
        return Checksum(length, crc.hex(), sha.hex())

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def pack(length: int, crc32c: str, sha256: str) -> bytes:
    """An entry of a table as one object.

    Raises:
        ValueError: the length is no integer, or a digest is not of its length in hexadecimal.
    """
    crc, sha = bytes.fromhex(crc32c), bytes.fromhex(sha256)
    if (len(crc), len(sha)) != (4, 32):
        raise ValueError(f"{crc32c} is no CRC-32C, or {sha256} no SHA-256")
    try:
        return _PACKED.pack(length, crc, sha)
    except struct.error as error:
        raise ValueError(f"{length!r} is no number of bytes") from error


def packed_if_checksum(values: dict[str, Any]) -> Any:
    """The packed entry where a JSON object is a checksum, and otherwise the object: an `object_hook` of `json`."""
    return pack(*(values[field] for field in _FIELDS)) if values.keys() == set(_FIELDS) else values


def encoded(values: Mapping[str, Any], *, indent: bool) -> Iterator[bytes]:
    """The pieces of what `json.dumps` makes of an object with sorted keys, whose tables are never text as a whole.

    Args:
        values: the object; a value of it may be a mapping of `Checksum`.
        indent: whether to indent by one space, and otherwise to leave out all spaces.
    """
    line = "\n " if indent else ""
    for number, key in enumerate(sorted(values)):
        yield f"{',' if number else '{'}{line}{json.dumps(key)}:{' ' if indent else ''}".encode()
        if isinstance(values[key], ChecksumTable):
            yield from _encoded_table(values[key], indent)
        else:
            # Text of JSON has no line ends within its strings.
            yield _dumps(values[key], indent).replace("\n", line).encode()
    yield b"\n}" if indent else b"}"


def _encoded_table(table: ChecksumTable, indent: bool) -> Iterator[bytes]:
    between, line = (",\n  ", "\n  ") if indent else (",", "")
    start = "{" + line
    paths = sorted(table)
    for first in range(0, len(paths), _PIECE):
        entries = (_entry(path, table[path], indent) for path in paths[first : first + _PIECE])
        yield (start + between.join(entries)).encode()
        start = between
    yield (b"\n }" if indent else b"}") if table else b"{}"


def _entry(path: str, checksum: Checksum, indent: bool) -> str:
    values = {"bytes": checksum.bytes, "crc32c": checksum.crc32c, "sha256": checksum.sha256}
    colon = ": " if indent else ":"
    return f"{json.dumps(path)}{colon}" + _dumps(values, indent).replace("\n", "\n  ")


def _dumps(value: Any, indent: bool) -> str:
    separators = None if indent else (",", ":")
    return json.dumps(
        value, indent=1 if indent else None, separators=separators, sort_keys=True, allow_nan=False
    )


@dataclass(frozen=True)
class Manifest:
    """What a complete store consists of.

    Attributes:
        fingerprint: the fingerprint of the build's plan.
        config: what the store was built from, without what has no effect on its bytes.
        files: checksums by path.
        rounding: the largest relative error of mantissa rounding in each channel.
        sources: what was read, as it is published in the store.
        assumptions: what was assumed, as it is published in the store; None in older stores, which do not record it.
        coding: of a store in 16 bits, the scale, offset and errors of each channel of `state` and `static`.
    """

    fingerprint: str
    config: dict[str, Any]
    files: Mapping[str, Checksum]
    rounding: list[float]
    sources: list[dict[str, Any]]
    assumptions: list[dict[str, Any]] | None = None
    coding: dict[str, Any] | None = None

    @cached_property
    def checksum(self) -> str:
        """The digest of all that it says, which changes with any byte of the store."""
        return _digest(self._values())

    def write(self, root: Path) -> None:
        """Write the manifest into the store, durably, with a checksum of itself."""
        # The checksum of itself, since damage to any other file is found by what the manifest says.
        durable.write_pieces(
            root / MANIFEST, encoded({**self._values(), "checksum": self.checksum}, indent=True)
        )

    def _values(self) -> dict[str, Any]:
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        # Stores in float32 keep the bytes, and with them the checksum, of before there were others.
        if self.coding is None:
            del held["coding"]
        files = self.files if isinstance(self.files, ChecksumTable) else ChecksumTable(self.files.items())
        return {"format": FORMAT, **held, "files": files}


def _digest(values: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for piece in encoded(values, indent=False):
        digest.update(piece)
    return digest.hexdigest()


def _equals(content: bytes, pieces: Iterable[bytes]) -> bool:
    view, position = memoryview(content), 0
    for piece in pieces:
        if view[position : position + len(piece)] != piece:
            return False
        position += len(piece)
    return position == len(content)


def read_manifest(root: Path | Url) -> Manifest:
    """The manifest of a store.

    Raises:
        MissingFileError: there is none, so this is no complete store.
        DamagedFileError: it fails its own checksum.
    """
    file = root / MANIFEST
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{file}: missing; {root} is no complete store, or no store at all") from error
    try:
        # Packed while it is read: as Python's objects the entries of a large store take gigabytes, in each process.
        values = json.loads(content, object_hook=packed_if_checksum)
        values["files"] = ChecksumTable.of_packed(values["files"])
        # Its checksum is of values; this finds what JSON does not mind, as another space.
        if not _equals(content, encoded(values, indent=True)):
            raise ValueError("it is not as it was written")
        if values.pop("checksum") != _digest(values):
            raise ValueError("it fails its own checksum")
        del values["format"]
        return Manifest(**values)
    # RecursionError: JSON that nests without end, as a stranger's file may.
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(
            f"{file}: damaged: {error}; build the store again with overwrite=true"
        ) from error


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file of a store.

    Attributes:
        path: the file's path in the store.
        kind: what is wrong.
        detail: what is wrong, in words.
    """

    path: str
    kind: Literal["missing", "size", "checksum", "unexpected", "manifest"]
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def verify(path: Path | Url, *, sha256: bool = False) -> list[Damage]:
    """All that is wrong with a store: its manifest, the size and CRC-32C of every file, files that do not belong to it.

    On a server every file is fetched; files that do not belong there are not found, since servers need not list files.

    Args:
        path: the store's path or URL.
        sha256: whether to compare SHA-256 as well, which takes six times as long.

    Raises:
        MissingFileError: there is no store.
        DamagedFileError: its server is gone.
    """
    if not path.is_dir():
        raise MissingFileError(f"{path}: no such store")
    try:
        manifest = read_manifest(path)
    except (MissingFileError, DamagedFileError) as error:
        return [Damage(str(MANIFEST), "manifest", str(error).removeprefix(f"{path / MANIFEST}: "))]
    if isinstance(path, Url):
        return _remote_damages(path, manifest, sha256)
    found = (_damage(path, name, expected, sha256) for name, expected in sorted(manifest.files.items()))
    return [damage for damage in found if damage] + [
        Damage(name, "unexpected", "the manifest does not know this file")
        for name in sorted(files_of(path) - set(manifest.files))
    ]


def files_of(root: Path) -> set[str]:
    """The paths of all files of a store, without those that its build keeps about itself."""
    found = (file.relative_to(root) for file in root.rglob("*") if file.is_file())
    return {str(file) for file in found if file.parts[0] != MANIFEST.parts[0]}


def files_beside_shards(root: Path) -> set[str]:
    """The same without a look into the folders of shards, of which there may be millions."""
    found = set()
    for directory, folders, names in os.walk(root):
        folder = Path(directory).relative_to(root)
        folders[:] = [name for name in folders if folder / name not in (MANIFEST.parent, *SHARD_FOLDERS)]
        found |= {str(folder / name) for name in names}
    return found


def _damage(root: Path, name: str, expected: Checksum, sha256: bool) -> Damage | None:
    file = root / name
    if not file.is_file():
        return Damage(name, "missing", "the file is missing")
    if (size := file.stat().st_size) != expected.bytes:
        return _wrong_size(name, size, expected)
    found = durable.crc32c(file), durable.sha256(file) if sha256 else expected.sha256
    return _wrong_content(name, *found, expected)


def _remote_damages(root: Url, manifest: Manifest, sha256: bool) -> list[Damage]:
    def one(item: tuple[str, Checksum]) -> Damage | None:
        name, expected = item
        try:
            content = (root / name).read_bytes()
        except MissingFileError:
            return Damage(name, "missing", "the file is missing")
        if len(content) != expected.bytes:
            return _wrong_size(name, len(content), expected)
        digest = hashlib.sha256(content).hexdigest() if sha256 else expected.sha256
        return _wrong_content(name, f"{google_crc32c.value(content):08x}", digest, expected)

    with ThreadPoolExecutor(_PARALLEL_FILES) as pool:
        return [damage for damage in pool.map(one, sorted(manifest.files.items())) if damage]


def _wrong_size(name: str, size: int, expected: Checksum) -> Damage:
    return Damage(name, "size", f"{size} bytes where {expected.bytes} were written")


def _wrong_content(name: str, crc: str, digest: str, expected: Checksum) -> Damage | None:
    if crc != expected.crc32c:
        return Damage(name, "checksum", f"CRC-32C {crc} where {expected.crc32c} was written")
    if digest != expected.sha256:
        return Damage(name, "checksum", f"SHA-256 differs from {expected.sha256}")
    return None
