from pathlib import Path

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.store.open_reader import open_reader
from pelagos.preprocessing.store.zarr_reader import ZarrReader
from tests.preprocessing.sharded_array import SHAPE, make_array


@pytest.mark.parametrize("chunk", [(2, 3), (4, 4)])
def test_other_chunks_are_read_through_zarr(tmp_path: Path, values: Float32s, chunk: tuple[int, int]) -> None:
    make_array(tmp_path / "a", "none", chunk=chunk)[:] = values
    reader, out = open_reader(tmp_path / "a"), np.empty(SHAPE[1:], np.float32)
    assert isinstance(reader, ZarrReader)
    reader.read_frames((4, 0), out)
    assert np.array_equal(out, values[4])


def test_other_codecs_are_read_through_zarr(
    tmp_path: Path, values: Float32s, caplog: pytest.LogCaptureFixture
) -> None:
    array = zarr.create_array(
        tmp_path / "a", shape=SHAPE, shards=(2, 7, 4, 6, 8), chunks=(1, 1, 4, 6, 8), dtype="float32"
    )
    array[:] = values
    reader = open_reader(tmp_path / "a")
    assert isinstance(reader, ZarrReader)
    assert "slower" in caplog.text
    assert "zstd" in caplog.text
    first, second = np.empty((1, 6, 8), np.float32), np.empty((2, 6, 8), np.float32)
    reader.read_frame((3, 5), [first, second])
    assert np.array_equal(np.concatenate([first, second]), values[3, 5, :3])
    out = np.empty((3, *SHAPE[2:]), np.float32)
    reader.read_frames((4, 2), out)
    assert np.array_equal(out, values[4, 2:5])
