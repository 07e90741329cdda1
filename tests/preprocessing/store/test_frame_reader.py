from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.preprocessing.store.frame_reader import (
    EmptyReader,
    FrameReader,
    MemoryReader,
    Position,
    SharedFrame,
    as_bytes,
    byte_range,
    scatter,
)

VALUES = np.random.default_rng(0).normal(size=(3, 4, 2, 5, 6)).astype(np.float32)


class Minimal(FrameReader):
    """Implements only what a reader must."""

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        scatter(VALUES[position], buffers)


def test_one_method_makes_a_reader() -> None:
    reader, out = Minimal(), np.empty((3, 2, 5, 6), np.float32)
    reader.read_frames((2, 1), out)
    assert np.array_equal(out, VALUES[2, 1:])
    assert not reader.splits_trajectories
    assert reader.locate(np.array([0]), np.array([[0, 1]])) is None


def test_nothing_to_prepare_does_not_cost_the_positions() -> None:
    positions = iter([(0, 0), (0, 1)])
    reader = Minimal()
    assert reader.prepare(positions, warm=True) is reader
    reader.announce(positions)
    assert list(positions) == [(0, 0), (0, 1)]


def test_all_trajectories_have_a_shared_frame_prepared_or_not() -> None:
    shared = SharedFrame(MemoryReader(VALUES[:1, 0]))
    for reader in (shared, shared.prepare([(1,), (2,)])):
        for trajectory in (0, 7):
            out = np.empty((2, 5, 6), np.float32)
            reader.read_frame((trajectory,), [out])
            assert np.array_equal(out, VALUES[0, 0])


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


@pytest.mark.parametrize("sizes", [(10,), (3, 7), (0, 4, 0, 6), (1,) * 10])
def test_values_go_to_the_buffers_in_order_whatever_their_number(sizes: tuple[int, ...]) -> None:
    buffers = [np.zeros(size, np.float32) for size in sizes]
    scatter(np.arange(10, dtype=np.float32), buffers)
    assert np.concatenate(buffers).tolist() == list(range(10))


def test_buffers_that_are_shorter_take_the_start() -> None:
    buffers = [np.zeros((2, 2)), np.zeros(1)]
    scatter(np.arange(9.0).reshape(3, 3), buffers)
    assert buffers[0].tolist() == [[0, 1], [2, 3]]
    assert buffers[1].tolist() == [4]


def test_a_range_of_bytes_is_what_joined_buffers_have_there() -> None:
    buffers = as_bytes(
        [np.arange(3, dtype=np.float32), np.zeros(0, np.float32), np.arange(5, dtype=np.int16)]
    )
    joined = np.concatenate(buffers)
    for start in range(len(joined)):
        for stop in range(start, len(joined) + 3):
            views = byte_range(buffers, start, stop)
            found = np.concatenate(views) if views else np.zeros(0, np.uint8)
            assert np.array_equal(found, joined[start:stop])


def test_ranges_are_views_through_which_buffers_are_filled() -> None:
    buffers = as_bytes([x := np.zeros(2, np.uint8), y := np.zeros(3, np.uint8)])
    scatter(np.array([7, 8], np.uint8), byte_range(buffers, 1, 3))
    assert (x.tolist(), y.tolist()) == ([0, 7], [8, 0, 0])
