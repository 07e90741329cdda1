import numpy as np

from pelagos.preprocessing.store.memory_reader import EmptyReader, MemoryReader

VALUES = np.random.default_rng(0).normal(size=(3, 4, 2, 5, 6)).astype(np.float32)


def test_frames_are_those_of_the_array() -> None:
    reader = MemoryReader(VALUES)
    first, second = np.empty((1, 5, 6), np.float32), np.empty((1, 5, 6), np.float32)
    reader.read_frame((2, 3), [first, second])
    assert np.array_equal(np.concatenate([first, second]), VALUES[2, 3])
    out = np.empty((2, 2, 5, 6), np.float32)
    reader.read_frames((1, 2), out)
    assert np.array_equal(out, VALUES[1, 2:])


def test_static_fields_have_one_leading_axis() -> None:
    out = np.empty((2, 2, 5, 6), np.float32)
    MemoryReader(VALUES[:, 0]).read_frames((1,), out)
    assert np.array_equal(out, VALUES[1:, 0])


def test_frames_without_channels_leave_buffers_alone() -> None:
    EmptyReader().read_frame((0,), [out := np.ones((0, 5, 6), np.float32)])
    assert out.shape == (0, 5, 6)
