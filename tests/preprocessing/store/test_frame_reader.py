from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.store.frame_reader import FrameReader, Position, SharedFrame
from pelagos.preprocessing.store.memory_reader import MemoryReader
from pelagos.preprocessing.store.scatter import scatter

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
