import numpy as np
import pytest

from pelagos.preprocessing.store.shard_index import decode_index, encode_index, frame_offsets, index_bytes
from pelagos.preprocessing.store.shard_layout import MISSING, ShardLayout

LAYOUT = ShardLayout((4, 2, 3, 5), (4, 2, 3, 5), (1, 1, 3, 5), "none")
"""Four frames in one shard, each of two chunks of 60 bytes."""


def entries(*starts: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    return np.array([[start, 60] for start in starts], np.uint64)


def test_an_index_is_as_long_as_the_layout_says_and_comes_back() -> None:
    written = entries(*range(0, 480, 60))
    content = encode_index(written).tobytes()
    assert len(content) == index_bytes(LAYOUT) == 8 * 16 + 4
    assert np.array_equal(decode_index(content), written)


@pytest.mark.parametrize("place", [0, 63, -1])
def test_any_flipped_bit_is_found(place: int) -> None:
    content = bytearray(encode_index(entries(0, 60, 120, 180)).tobytes())
    content[place] ^= 16
    with pytest.raises(ValueError, match="torn or damaged"):
        decode_index(bytes(content))


@pytest.mark.parametrize("length", [0, 3, 40])
def test_an_index_cut_short_is_found(length: int) -> None:
    with pytest.raises(ValueError, match="torn or damaged"):
        decode_index(encode_index(entries(0, 60, 120, 180)).tobytes()[:length])


def test_frames_lie_in_one_piece_where_their_chunks_follow_each_other() -> None:
    table = entries(0, 60, 120, 200, 300, 360, 420, 480)  # a gap within the second frame
    table[6] = MISSING
    assert frame_offsets(table, LAYOUT).tolist() == [0, -1, 300, -1]


def test_chunks_of_another_length_or_encoded_are_no_frame_in_memory() -> None:
    table = entries(*range(0, 480, 60))
    table[3, 1] = 40
    assert frame_offsets(table, LAYOUT).tolist() == [0, -1, 240, 360]
    encoded = ShardLayout(LAYOUT.shape, LAYOUT.shard, LAYOUT.chunk, "blosc-lz4")
    assert frame_offsets(entries(*range(0, 480, 60)), encoded).tolist() == [-1] * 4
