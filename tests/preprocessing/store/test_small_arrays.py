from pathlib import Path

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.small_arrays import read_small_arrays


@pytest.fixture
def group(tmp_path: Path) -> Path:
    made = zarr.create_group(tmp_path / "g")
    made.create_array("time", data=np.arange(5.0), chunks=(5,))
    made.create_array("stats/mean", data=np.ones((2, 3), np.float32), chunks=(2, 3))
    return tmp_path / "g"


def test_arrays_come_back_by_name(group: Path) -> None:
    found = read_small_arrays(group, ["stats/mean", "time"])
    assert found["time"].tolist() == [0, 1, 2, 3, 4]
    assert found["stats/mean"].dtype == np.float32
    assert found["stats/mean"].shape == (2, 3)


@pytest.mark.parametrize("file", ["time/c/0", "time/zarr.json"])
def test_a_missing_file_is_damage_and_no_zeros(group: Path, file: str) -> None:
    (group / file).unlink()
    with pytest.raises(DamagedFileError, match=f"{file}: missing; `pelagos repair` mends the store"):
        read_small_arrays(group, ["time"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [("time/zarr.json", b"[]", r"time/zarr\.json: damaged"), ("time/c/0", b"torn", "time: cannot be read")],
)
def test_damaged_files_are_named(group: Path, file: str, content: bytes, message: str) -> None:
    (group / file).write_bytes(content)
    with pytest.raises(DamagedFileError, match=message):
        read_small_arrays(group, ["stats/mean", "time"])
