import hashlib
import json
import os
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from google_crc32c import value as crc32c

from pelagos.preprocessing.files import durable


def test_checksums_are_those_of_other_implementations(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(9 << 20)  # more than two blocks
    (tmp_path / "file").write_bytes(content)
    found = durable.checksum(tmp_path / "file")
    assert found.bytes == len(content)
    assert found.sha256 == hashlib.sha256(content).hexdigest() == durable.sha256(tmp_path / "file")
    assert found.crc32c == f"{crc32c(content):08x}" == durable.crc32c(tmp_path / "file")
    # The check value of CRC-32C (Castagnoli) in the catalogue of parametrised CRC algorithms.
    (tmp_path / "known").write_bytes(b"123456789")
    assert durable.crc32c(tmp_path / "known") == "e3069283"


def test_a_digest_does_not_depend_on_how_bytes_are_cut() -> None:
    content = np.arange(1000, dtype=np.uint16).view(np.uint8)
    whole, pieces = durable.Digest(), durable.Digest()
    whole.update(content)
    pieces.update(content[:7], content[7:500])
    pieces.sha256(content[500:])
    pieces.crc32c(content[500:])
    assert whole.result() == pieces.result()
    assert pieces.bytes == 2000


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    durable.write_bytes(tmp_path / "file", b"old")

    def fail() -> None:
        with durable.replacing(tmp_path / "file") as descriptor:
            durable.write_all(descriptor, np.zeros(9, np.uint8))
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        fail()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_bytes(path, b"old")
    with durable.replacing(path) as descriptor:
        durable.write_all(descriptor, np.frombuffer(b"new", np.uint8))
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_buffers_are_written_one_after_the_other_from_a_position(tmp_path: Path) -> None:
    buffers = [np.full(5 << 20, 1, np.uint8), np.empty(0, np.uint8), np.full(3, 2, np.uint8)]
    seen: list[int] = []
    with durable.replacing(tmp_path / "file") as descriptor:
        durable.write_all(descriptor, *buffers, position=4, on_block=lambda block: seen.append(len(block)))
    assert (tmp_path / "file").read_bytes() == bytes(4) + b"\1" * (5 << 20) + b"\2" * 3
    assert sum(seen) == (5 << 20) + 3
    assert max(seen) <= 4 << 20


def test_json_is_readable_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    durable.write_json(path, {"y": [1.5], "x": "θ"})
    assert json.loads(path.read_text()) == {"y": [1.5], "x": "θ"}
    assert path.read_text().endswith("}\n")


def test_only_partial_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for name in ("c/0", "c/.0.1234.partial", "zarr.json.partial"):
        (tmp_path / name).write_bytes(b"")
    durable.remove_partials(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["0"]


def test_a_folder_is_removed_but_nothing_behind_its_links(tmp_path: Path) -> None:
    kept, doomed = tmp_path / "kept", tmp_path / "doomed"
    for folder in (kept, doomed / "deep", doomed / "deep" / "deeper"):
        folder.mkdir(parents=True)
        for number in range(20):
            (folder / f"{number}").touch()
    (doomed / "folder").symlink_to(kept)
    (doomed / "file").symlink_to(kept / "0")
    durable.remove_tree(doomed)
    (tmp_path / "link").symlink_to(kept)
    durable.remove_tree(tmp_path / "link")
    durable.remove_tree(tmp_path / "absent")
    assert not doomed.exists()
    assert len(list(kept.iterdir())) == 20


def test_a_lock_excludes_others_and_a_shared_one_only_exclusive_ones(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with durable.lock(path, shared=True):
        with durable.lock(path, shared=True):
            pass
        with (
            pytest.raises(durable.LockedError, match="lock: another process holds this lock"),
            durable.lock(path),
        ):
            pass
    with durable.lock(path), pytest.raises(durable.LockedError), durable.lock(path, shared=True):
        pass
    with durable.lock(path):
        pass


def test_the_checksum_of_json_depends_on_its_values_alone() -> None:
    assert durable.json_checksum({"b": 1, "a": [1.5]}) == durable.json_checksum({"a": [1.5], "b": 1})
    assert durable.json_checksum({"a": 1}) != durable.json_checksum({"a": 2})
    with pytest.raises(ValueError, match="not JSON compliant"):
        durable.json_checksum({"a": float("nan")})
    assert len(durable.json_checksum({"a": float("nan")}, finite=False)) == 64


def test_a_lock_says_who_holds_it_until_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("process 1 on a machine that is gone")
    with durable.lock(path):
        with pytest.raises(durable.LockedError, match=rf"\(process {os.getpid()} on .+\); wait") as caught:
            durable.lock(path).__enter__()
        assert caught.value.exit_code == 74, "another try may succeed"
    with durable.lock(path, shared=True), pytest.raises(durable.LockedError) as caught:
        durable.lock(path).__enter__()
    assert "process" not in str(caught.value).removeprefix(f"{path}: another process"), "of an earlier holder"


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    held = durable.lock(tmp_path / "lock")
    held.__enter__()
    Timer(0.2, lambda: held.__exit__(None, None, None)).start()
    with durable.lock(tmp_path / "lock", patience=20.0):
        pass


def test_a_place_has_one_writer_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "runs", target_is_directory=True)
    (tmp_path / "runs").mkdir()
    with durable.sole_writer(tmp_path / "runs" / "a"):
        with pytest.raises(durable.LockedError), durable.sole_writer(tmp_path / "link" / "a"):
            pass
        with durable.sole_writer(tmp_path / "runs" / "b"):
            pass


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_permissions_that_the_user_wants(tmp_path: Path, umask: int, mode: int) -> None:
    file = tmp_path / "weights"
    file.touch(mode=0o600)
    before = os.umask(umask)
    try:
        durable.give_usual_mode(file)
        durable.write_json(tmp_path / "record.json", {})
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in sorted(tmp_path.iterdir())] == [mode, mode]
