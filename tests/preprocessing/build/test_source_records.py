import hashlib
from pathlib import Path
from typing import Any

import zarr
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build


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
