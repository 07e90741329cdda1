import numpy as np
import pytest

from pelagos.preprocessing.store.scatter import as_bytes, byte_range, scatter


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
