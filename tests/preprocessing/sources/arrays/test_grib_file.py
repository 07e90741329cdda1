"""GRIB files are opened once, and a torn last message is not left out without a word."""

import os
from pathlib import Path

import pytest

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.sources.arrays.grib_file import open_undecoded
from tests.preprocessing.sources.formats.test_grib import messages


def test_a_file_is_indexed_once_and_without_an_index_beside_it(tmp_path: Path) -> None:
    path = Path(messages(tmp_path / "a.grib"))
    assert open_undecoded(path) is open_undecoded(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("lost", [1, 40, 150])
def test_a_torn_last_message_is_named(tmp_path: Path, lost: int) -> None:
    path = Path(messages(tmp_path / "a.grib"))
    os.truncate(path, path.stat().st_size - lost)
    with pytest.raises(
        DamagedFileError, match=r"a\.grib: its last message is torn; download or create it again"
    ):
        open_undecoded(path)


def test_padding_between_messages_is_allowed(tmp_path: Path) -> None:
    path = Path(messages(tmp_path / "a.grib"))
    with path.open("ab") as file:
        file.write(bytes(64))
    assert set(open_undecoded(path).sizes) >= {"latitude", "longitude"}
