import json
from pathlib import Path

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.format import CODED_FORMAT, FORMAT
from pelagos.preprocessing.store.store import open_store


def test_a_store_of_another_format_is_refused_rather_than_misread(tmp_path: Path) -> None:
    path = build(configuration(tmp_path, {"trajectories": 3}))
    file = path / "zarr.json"
    metadata = json.loads(file.read_text())
    assert metadata["attributes"]["pelagos"]["format"] == FORMAT
    metadata["attributes"]["pelagos"]["format"] = CODED_FORMAT + 1
    file.write_text(json.dumps(metadata))
    with pytest.raises(
        DataError,
        match=f"of format {CODED_FORMAT + 1}; this version of Pelagos reads formats {FORMAT} and {CODED_FORMAT}",
    ):
        open_store(path)
