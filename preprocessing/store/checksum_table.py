"""ChecksumTable: the checksums of millions of files by path, in a third of the memory of a dict of `Checksum`."""

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pelagos.preprocessing.files.durable import Checksum

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
