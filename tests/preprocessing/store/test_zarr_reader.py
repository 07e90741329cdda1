from pathlib import Path

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.zarr_reader import ZarrReader
from tests.preprocessing.sharded_array import SHAPE


@pytest.fixture
def folder(tmp_path: Path, values: Float32s) -> Path:
    """Chunks that no reader of ours knows."""
    array = zarr.create_array(tmp_path / "a", shape=SHAPE, chunks=(2, 3, 2, 5, 3), dtype="float64")
    array[:] = values
    return tmp_path / "a"


def test_frames_are_those_of_the_array_in_single_precision(folder: Path, values: Float32s) -> None:
    reader = ZarrReader(folder)
    first, second = np.empty((1, 6, 8), np.float32), np.empty((3, 6, 8), np.float32)
    reader.read_frame((4, 6), [first, second])
    assert np.array_equal(np.concatenate([first, second]), values[4, 6])
    reader.read_frames((3, 2), out := np.empty((4, *SHAPE[2:]), np.float32))
    assert np.array_equal(out, values[3, 2:6])


def test_a_chunk_that_cannot_be_decoded_is_named(folder: Path) -> None:
    (folder / "c/0/0/0/0/0").write_bytes(b"torn")
    with pytest.raises(DamagedFileError, match=r"a\(1, 2\): cannot be read"):
        ZarrReader(folder).read_frame((1, 2), [np.empty(SHAPE[2:], np.float32)])
