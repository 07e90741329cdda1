"""GRIB files are opened once, and what cannot be decoded is named."""

from pathlib import Path

import cfgrib
import eccodes
import numpy as np
import pytest

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.sources.arrays.grib_file import GribField, open_cubes
from tests.preprocessing.sources.formats.test_grib import messages


def test_a_file_is_indexed_once_and_without_an_index_beside_it(tmp_path: Path) -> None:
    path = Path(messages(tmp_path / "a.grib"))
    assert open_cubes(path) is open_cubes(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_message_that_cannot_be_decoded_is_found_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(messages(tmp_path / "a.grib"))
    cube = open_cubes(path)[0]
    reader = GribField(path, "t", cube["t"].shape, cube["t"].dtype, (), 0)
    everything = (slice(None),) * 4
    np.testing.assert_array_equal(
        reader.read((1, np.array([0, 1]), slice(1, 3), 2)), reader.read(everything)[1, :, 1:3, 2]
    )
    monkeypatch.setattr(cfgrib.dataset, "get_values_in_order", _raise)
    with pytest.raises(
        DamagedFileError, match=r"a\.grib: t: the values of a message cannot be decoded; download or"
    ):
        reader.read(everything)


def _raise(*_: object) -> None:
    raise eccodes.DecodingError("Decoding invalid")
