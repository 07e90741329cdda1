import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.files.durable import Checksum
from pelagos.preprocessing.store import manifest as manifest_module
from pelagos.preprocessing.store.manifest import (
    MANIFEST,
    ChecksumTable,
    Manifest,
    encoded,
    files_of,
    packed_if_checksum,
    read_manifest,
    verify,
)

CONTENTS = {"zarr.json": b"{}", "state/c/0": b"values", "stats/mean/c/0": b"0" * 100}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """What a manifest takes for a complete store: files, and their checksums."""
    for name, content in CONTENTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    files = {name: durable.checksum(tmp_path / name) for name in CONTENTS}
    (tmp_path / MANIFEST).parent.mkdir()
    Manifest("print", {"dataset": "a"}, files, [0.5], [{"path": "b"}]).write(tmp_path)
    return tmp_path


def kinds(store: Path, *, sha256: bool = False) -> dict[str, str]:
    return {damage.path: damage.kind for damage in verify(store, sha256=sha256)}


def test_a_manifest_comes_back(store: Path) -> None:
    manifest = read_manifest(store)
    assert (manifest.fingerprint, manifest.config, manifest.rounding) == ("print", {"dataset": "a"}, [0.5])
    assert manifest.files["state/c/0"].sha256 == hashlib.sha256(b"values").hexdigest()
    manifest.write(store)
    assert read_manifest(store) == manifest


def test_files_of_the_build_are_none_of_the_store(store: Path) -> None:
    (store / MANIFEST).with_name("plan.json").write_bytes(b"{}")
    assert files_of(store) == set(CONTENTS)
    assert verify(store, sha256=True) == []


def test_each_kind_of_damage_is_told_apart(store: Path) -> None:
    (store / "zarr.json").unlink()
    (store / "state/c/0").write_bytes(b"value")
    (store / "stats/mean/c/0").write_bytes(b"1" + b"0" * 99)
    (store / "junk").write_bytes(b"")
    assert kinds(store) == {
        "junk": "unexpected",
        "state/c/0": "size",
        "stats/mean/c/0": "checksum",
        "zarr.json": "missing",
    }


def test_sha256_finds_what_the_crc_does_not(store: Path) -> None:
    manifest = read_manifest(store)
    files = {**manifest.files, "zarr.json": replace(manifest.files["zarr.json"], sha256="0" * 64)}
    replace(manifest, files=files).write(store)
    assert kinds(store) == {}
    assert kinds(store, sha256=True) == {"zarr.json": "checksum"}


def test_a_manifest_that_was_changed_is_damage(store: Path) -> None:
    file = store / MANIFEST
    file.write_text(file.read_text().replace('"print"', '"paint"'))
    with pytest.raises(DamagedFileError, match=r"manifest\.json: damaged: it fails its own checksum"):
        read_manifest(store)
    assert kinds(store) == {str(MANIFEST): "manifest"}


def test_what_has_no_manifest_is_no_complete_store(store: Path) -> None:
    (store / MANIFEST).unlink()
    with pytest.raises(MissingFileError, match="is no complete store"):
        read_manifest(store)
    assert kinds(store) == {str(MANIFEST): "manifest"}
    with pytest.raises(MissingFileError, match="no such store"):
        verify(store / "nowhere")


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
    monkeypatch.setattr(manifest_module, "_PIECE", 3)
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
