import hashlib
import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.source_records import (
    SourceRecord,
    changed_sources,
    record_sources,
    software,
    with_checksum,
)
from pelagos.preprocessing.errors import DataError


def _provenance(path: Path) -> Any:
    provenance: Any = zarr.open_group(path, mode="r").attrs["provenance"]
    return provenance["sources"]


def test_sources_are_recorded_with_their_checksums(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(6))
    source = {"path": str(archive)}
    records = [
        _provenance(build(configuration(tmp_path, source, version=str(wanted), checksum_sources=wanted)))
        for wanted in (True, False)
    ]
    assert records[0] == [{"path": str(archive), "bytes": 6, "sha256": hashlib.sha256(bytes(6)).hexdigest()}]
    assert records[1] == [{"path": str(archive), "bytes": 6, "sha256": ""}]


def test_a_folder_has_the_digest_of_its_names_and_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "c").mkdir(parents=True)
        (folder / "c/0").write_bytes(b"abc")
        (folder / "zarr.json").write_bytes(b"{}")
    records = [with_checksum(record) for record in record_sources([str(one), str(two), str(one)])]
    assert [record.path for record in records] == [str(one), str(two)], "each source once"
    assert {record.bytes for record in records} == {5}
    assert records[0].sha256 == records[1].sha256
    (two / "c/0").rename(two / "c/1")
    assert with_checksum(record_sources([str(two)])[0]).sha256 != records[0].sha256


def test_what_differs_between_copies_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (record,) = record_sources([str(tmp_path / "a")])
    assert record.modified > 0
    assert record.published() == {"path": str(tmp_path / "a"), "bytes": 3, "sha256": ""}
    assert SourceRecord(**record.to_json()) == record


def test_the_versions_of_all_packages_that_decide_bytes_are_known() -> None:
    assert set(software()) == {"pelagos", "numpy", "xarray", "zarr", "numcodecs"}
    assert all(software().values())


def changed(file: Path, content: bytes) -> None:
    """Change a file without a change of its size or its time of modification."""
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("checksums", [True, False])
def test_a_change_while_a_source_is_read_is_found_whatever_its_times_say(
    tmp_path: Path, checksums: bool
) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(6))

    def change(done: int, num: int) -> None:
        if done == 1:
            changed(archive, bytes(5) + b"1")

    config = configuration(tmp_path, {"path": str(archive)}, checksum_sources=checksums)
    with pytest.raises(DataError, match="archive changed while it was read"):
        build(config, change)


def test_a_change_between_two_halves_of_a_build_is_found_whatever_its_times_say(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(6))

    def stop(done: int, num: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    config = configuration(tmp_path, {"path": str(archive)})
    with pytest.raises(KeyboardInterrupt):
        build(config, stop)
    # Only touched, or copied back: the content is what counts.
    archive.touch()
    with pytest.raises(KeyboardInterrupt):
        build(config, stop)
    changed(archive, bytes(5) + b"1")
    with pytest.raises(DataError, match="archive has changed since"):
        build(config)
    archive.write_bytes(bytes(6))
    assert _provenance(build(config))[0]["sha256"] == hashlib.sha256(bytes(6)).hexdigest()


def test_the_recorded_checksum_is_of_the_content_before_the_build(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(bytes(6))
    found: list[Any] = []

    def look(done: int, num: int) -> None:
        if done == 0:
            kept = (tmp_path / "analytic/analytic-1.zarr.building/_build/sources").iterdir()
            found.extend(json.loads(file.read_text()) for file in kept)

    path = build(configuration(tmp_path, {"path": str(archive)}), look)
    assert found[0]["sha256"] == hashlib.sha256(bytes(6)).hexdigest()
    assert [file.name for file in (path / "_build").iterdir()] == ["manifest.json"]


def test_linked_files_are_sources_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "far.h5", "w") as file:
        file["values"] = np.arange(3.0)
    with h5py.File(tmp_path / "near.h5", "w") as file:
        file["values"] = h5py.ExternalLink("far.h5", "/values")
    records = record_sources([str(tmp_path / "near.h5")])
    assert [Path(record.path).name for record in records] == ["near.h5", "far.h5"]
    before = [with_checksum(record) for record in records]
    assert changed_sources(before, record_sources([str(tmp_path / "near.h5")])) == []
    content = (tmp_path / "far.h5").read_bytes()
    changed(tmp_path / "far.h5", content[:-1] + bytes([content[-1] ^ 1]))
    assert changed_sources(before, record_sources([str(tmp_path / "near.h5")])) == [str(tmp_path / "far.h5")]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0").write_bytes(b"abc")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "a.zarr")
    assert record_sources([str(tmp_path / "a.zarr")])[0].bytes == 3


def test_records_of_before_have_no_time_of_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    [record] = record_sources([str(tmp_path / "a")])
    values = record.to_json()
    del values["changed"]
    assert changed_sources([SourceRecord(**values)], [record]) == []
    assert changed_sources([SourceRecord(**{**values, "modified": 1})], [record]) == [record.path]
