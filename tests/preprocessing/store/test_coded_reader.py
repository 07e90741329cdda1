import numpy as np
import pytest

from pelagos.preprocessing.store.coded_reader import CodedReader
from pelagos.preprocessing.store.coding import Coding
from pelagos.preprocessing.store.frame_reader import MemoryReader

SHAPE = (2, 3, 4, 6, 5)
CODED = np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)
CODING = Coding(np.array([0.5, 2, 1, 4], np.float32), np.array([3, 0, -1, 100], np.float32))
VALUES = CODED.astype(np.float32) * CODING.scale[:, None, None] + CODING.offset[:, None, None]
READER = CodedReader(MemoryReader(CODED), CODING)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_buffers_get_the_values_or_the_bytes_as_they_are_stored(dtype: type[np.floating]) -> None:
    expected = VALUES if dtype is np.float32 else CODED
    first, second = np.empty((1, 6, 5), dtype), np.empty((2, 6, 5), dtype)
    READER.prepare([(1, 2)]).read_frame((1, 2), [first, second])
    assert np.array_equal(np.concatenate([first, second]), expected[1, 2, :3])
    rows = [np.empty((1, 2, 5), dtype), np.empty((3, 2, 5), dtype)]
    READER.read_rows((0, 1), range(3, 5), 6, rows)
    assert np.array_equal(np.concatenate(rows), expected[0, 1, :, 3:5])


def test_a_run_of_frames_is_decoded() -> None:
    out = np.empty((2, *SHAPE[2:]), np.float32)
    READER.read_frames((1, 1), out)
    assert np.array_equal(out, VALUES[1, 1:])
