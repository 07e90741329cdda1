import json
from typing import Any

import pytest

from pelagos.preprocessing.files.durable import Checksum
from pelagos.preprocessing.store import checksum_table
from pelagos.preprocessing.store.checksum_table import ChecksumTable, encoded, packed_if_checksum

ENTRIES = {f'state/c/{n}/\u00e4"': Checksum(n << 33, f"{n:08x}", f"{n:064x}") for n in (7, 0, 5, 12)}


def as_objects(entries: dict[str, Checksum]) -> dict[str, Any]:
    return {path: vars(checksum) for path, checksum in entries.items()}


def test_a_table_is_the_dict_that_it_was_made_from() -> None:
    table = ChecksumTable(ENTRIES.items())
    assert dict(table) == ENTRIES
    with pytest.raises(KeyError):
        table["elsewhere"]


@pytest.mark.parametrize("entries", [ENTRIES, {}])
def test_pieces_are_what_json_makes_of_the_whole(
    entries: dict[str, Checksum], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksum_table, "_PIECE", 3)
    values = {"files": ChecksumTable(entries.items()), "config": {"b": [1, {}], "a": "x\n y"}, "none": None}
    plain = {**values, "files": as_objects(entries)}
    assert b"".join(encoded(values, indent=True)) == json.dumps(plain, indent=1, sort_keys=True).encode()
    compact = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    assert b"".join(encoded(values, indent=False)) == compact


def test_json_is_read_into_a_table() -> None:
    read = json.loads(json.dumps(as_objects(ENTRIES)), object_hook=packed_if_checksum)
    assert ChecksumTable.of_packed(read) == ENTRIES


@pytest.mark.parametrize("wrong", [{"bytes": 1.5}, {"crc32c": "12"}, {"sha256": "x" * 64}])
def test_what_is_no_checksum_is_refused(wrong: dict[str, Any]) -> None:
    values = {"bytes": 1, "crc32c": "0" * 8, "sha256": "0" * 64} | wrong
    with pytest.raises(ValueError, match=r"no number of bytes|no CRC-32C|non-hexadecimal"):
        packed_if_checksum(values)
    with pytest.raises(TypeError, match="other entries than its bytes, crc32c and sha256"):
        ChecksumTable.of_packed({"a": {"bytes": 1}})  # type: ignore[dict-item]
