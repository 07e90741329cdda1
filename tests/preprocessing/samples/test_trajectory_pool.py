import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.samples.trajectory_pool import TrajectoryPool
from pelagos.preprocessing.store.frame_reader import FrameReader, Position

VALUES = np.random.default_rng(0).normal(size=(6, 5, 2, 3, 4)).astype(np.float32)


class Counting(FrameReader):
    """Notes which trajectories are read, and takes its time."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        pytest.fail("a pool reads whole trajectories")

    def read_frames(self, position: Position, out: Float32s) -> None:
        trajectory, start = position
        assert (start, len(out)) == (0, 5)
        self.read.append(trajectory)
        time.sleep(0.005)
        out[:] = VALUES[trajectory]


@pytest.fixture
def source() -> Counting:
    return Counting()


@pytest.fixture
def pool(source: Counting) -> TrajectoryPool:
    return TrajectoryPool(source, VALUES.shape[1:], 3)


def frame(pool: FrameReader, trajectory: int, time: int) -> Float32s:
    out = np.empty(VALUES.shape[2:], np.float32)
    pool.read_frame((trajectory, time), [out[:1], out[1:]])
    return out


def test_frames_are_those_of_the_reader_below(pool: TrajectoryPool) -> None:
    for trajectory, number in ((4, 0), (0, 3), (4, 4)):
        assert np.array_equal(frame(pool, trajectory, number), VALUES[trajectory, number])
    pool.read_frames((2, 1), out := np.empty((3, *VALUES.shape[2:]), np.float32))
    assert np.array_equal(out, VALUES[2, 1:4])


def test_what_was_used_last_is_kept(pool: TrajectoryPool, source: Counting) -> None:
    for trajectory in (0, 1, 2, 0, 3, 0, 2, 1):
        frame(pool, trajectory, 0)
    assert source.read == [0, 1, 2, 3, 1]


def test_preparing_reads_each_trajectory_once(pool: TrajectoryPool, source: Counting) -> None:
    prepared = pool.prepare([(1, 0), (3, 2), (1, 4)])
    assert sorted(source.read) == [1, 3]
    assert np.array_equal(frame(prepared, 3, 2), VALUES[3, 2])
    pool.prepare([(3, 0)])
    assert sorted(source.read) == [1, 3]


def test_no_more_is_prepared_than_is_kept(pool: TrajectoryPool, source: Counting) -> None:
    pool.prepare((trajectory, 0) for trajectory in range(6))
    assert sorted(source.read) == [0, 1, 2]
    assert np.array_equal(frame(pool, 5, 1), VALUES[5, 1])


def test_threads_that_want_the_same_trajectory_read_it_once(pool: TrajectoryPool, source: Counting) -> None:
    found: list[Float32s] = []
    threads = [threading.Thread(target=lambda: found.append(frame(pool, 2, 4))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.read == [2]
    assert len(found) == 4
    assert all(np.array_equal(values, VALUES[2, 4]) for values in found)
