import hashlib
from pathlib import Path
from typing import Any

import zarr
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.source_records import SourceRecord, record_sources, software, with_checksums


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
    records = with_checksums(record_sources([str(one), str(two), str(one)]))
    assert [record.path for record in records] == [str(one), str(two)], "each source once"
    assert {record.bytes for record in records} == {5}
    assert records[0].sha256 == records[1].sha256
    (two / "c/0").rename(two / "c/1")
    assert with_checksums(record_sources([str(two)]))[0].sha256 != records[0].sha256


def test_what_differs_between_copies_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (record,) = record_sources([str(tmp_path / "a")])
    assert record.modified > 0
    assert record.published() == {"path": str(tmp_path / "a"), "bytes": 3, "sha256": ""}
    assert SourceRecord(**record.to_json()) == record


def test_the_versions_of_all_packages_that_decide_bytes_are_known() -> None:
    assert set(software()) == {"pelagos", "numpy", "xarray", "zarr", "numcodecs"}
    assert all(software().values())
