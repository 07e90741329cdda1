from itertools import product

import numpy as np
import pytest

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.samples.fill_kernels import FlatBuffers
from pelagos.preprocessing.samples.sample_moves import ChannelMoves, SampleMoves, move_samples

SIZE = 5
TURNS = list(product((0, 1), repeat=3))


def moved(x_HW: Float32s, turn: tuple[int, ...], shift: tuple[int, int]) -> Float32s:
    """By NumPy: rolled, then transposed, then mirrored."""
    y = np.roll(x_HW, (-shift[0], -shift[1]), (0, 1))
    y = y.T if turn[0] else y
    return y[:: -1 if turn[1] else 1, :: -1 if turn[2] else 1]


def channel_moves(places: list[int], gain: float = 1.0, offset: float = 0.0) -> ChannelMoves:
    num = len(TURNS)
    factors = np.full((num, len(places)), gain, np.float32)
    return ChannelMoves(np.tile(np.array(places), (num, 1)), factors, np.full_like(factors, offset))


@pytest.mark.parametrize("shift", [(0, 0), (2, 4)])
def test_fields_are_rolled_then_transposed_then_mirrored(shift: tuple[int, int]) -> None:
    rng, num = np.random.default_rng(0), len(TURNS)
    x = rng.normal(size=(num, 3, SIZE * SIZE)).astype(np.float32)
    y = rng.normal(size=(num, 2, 2, SIZE * SIZE)).astype(np.float32)
    z = rng.normal(size=(num, 1, 1, SIZE * SIZE)).astype(np.float32)
    buffers = FlatBuffers(x.copy(), y.copy(), np.ones(y.shape, bool), z.copy())
    shifts = np.tile(np.array(shift), (num, 3, 1))
    shifts[:, 2] = 1
    moves = SampleMoves(
        np.array(TURNS),
        shifts,
        channel_moves([1, 0, 2], -2.0, 0.5),
        channel_moves([0, 1]),
        channel_moves([0]),
        SIZE,
    )
    move_samples((0, num - 1), buffers, moves)
    for n, turn in enumerate(TURNS[:-1]):
        for c, place in enumerate((1, 0, 2)):
            expected = -2 * moved(x[n, c].reshape(SIZE, SIZE), turn, shift) + 0.5
            assert np.array_equal(buffers.inputs[n, place].reshape(SIZE, SIZE), expected.astype(np.float32))
        for k, frame in enumerate((shift, (1, 1))):
            for c in range(2):
                expected = moved(y[n, k, c].reshape(SIZE, SIZE), turn, frame)
                assert np.array_equal(buffers.targets[n, k, c].reshape(SIZE, SIZE), expected)
        expected = moved(z[n, 0, 0].reshape(SIZE, SIZE), turn, shift)
        assert np.array_equal(buffers.forcings[n, 0, 0].reshape(SIZE, SIZE), expected)
    # Rows beyond the range are another call's.
    assert np.array_equal(buffers.inputs[-1], x[-1])


def test_a_grid_that_is_no_square_is_rolled_and_mirrored() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 12)
    buffers = FlatBuffers(
        x.copy(), x[:, None, :0].copy(), np.ones((1, 1, 0, 12), bool), x[:, None][:, :0].copy()
    )
    one = ChannelMoves(np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32))
    moves = SampleMoves(
        np.array([[0, 1, 1]]), np.array([[[1, 3], [0, 0]]]), one, one.part(0, 0), one.part(0, 0), 4
    )
    move_samples((0, 1), buffers, moves)
    assert np.array_equal(buffers.inputs.reshape(3, 4), moved(x.reshape(3, 4), (0, 1, 1), (1, 3)))
