from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.shard_layout import (
    MISSING,
    ShardLayout,
    UnsupportedLayoutError,
    compress,
    decode_index,
    decompress,
    encode_index,
    frame_offsets,
    index_bytes,
    read_metadata,
)
from tests.preprocessing.sharded_array import SHAPE, make_array

FRAMES = ShardLayout((5, 7, 4, 6, 8), (2, 7, 4, 6, 8), (1, 1, 4, 6, 8), "none")


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
def test_the_layout_of_an_array_is_read_from_its_metadata(tmp_path: Path, codec: str) -> None:
    make_array(tmp_path / "a", codec, (2, 3), (1, 4))
    layout = ShardLayout.from_metadata(read_metadata(tmp_path / "a"))
    assert layout == ShardLayout(SHAPE, (2, 3, 4, 8, 8), (1, 1, 1, 4, 8), layout.codec)
    assert layout.codec == codec
    assert layout.frame == (4, 6, 8)


def test_shards_and_chunks_cover_the_array() -> None:
    layout = ShardLayout((5, 7, 4, 6, 8), (2, 3, 4, 8, 8), (1, 1, 1, 4, 8), "none")
    assert layout.shard_counts == (3, 3, 1, 1, 1)
    assert layout.chunk_counts == (2, 3, 4, 2, 1)
    assert layout.block_shape((0, 0, 0, 0, 0)) == (2, 3, 4, 6, 8)
    assert layout.block_shape((2, 2, 0, 0, 0)) == (1, 1, 4, 6, 8)
    assert layout.key((2, 1, 0, 0, 0)) == "c/2/1/0/0/0"


@pytest.mark.parametrize("chunk", [(4, 6), (2, 6), (1, 6), (1, 4), (1, 1)])
def test_the_ranges_of_chunks_are_the_bytes_of_the_frame_in_order(chunk: tuple[int, int]) -> None:
    shard = (1, 1, 4, -(-6 // chunk[1]) * chunk[1], 8)
    ranges = ShardLayout((5, 7, 4, 6, 8), shard, (1, 1, *chunk, 8), "none").chunk_ranges
    assert len(ranges) == (4 // chunk[0]) * -(-6 // chunk[1])
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == 4 * 4 * 6 * 8


def test_frames_lie_as_in_memory_without_codec_and_padding() -> None:
    assert FRAMES.contiguous
    assert not ShardLayout(FRAMES.shape, FRAMES.shard, FRAMES.chunk, "blosc-lz4").contiguous
    assert not ShardLayout(FRAMES.shape, (2, 7, 4, 8, 8), (1, 1, 1, 4, 8), "none").contiguous


def test_trajectories_are_split_where_shards_end_within_them() -> None:
    assert not FRAMES.splits_trajectories
    assert ShardLayout(FRAMES.shape, (2, 3, 4, 6, 8), FRAMES.chunk, "none").splits_trajectories
    assert not ShardLayout((5, 4, 6, 8), (2, 4, 6, 8), (1, 4, 6, 8), "none").splits_trajectories


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": "float64"}, "data type"),
        ({"chunks": (1, 1, 2, 3, 8)}, "chunks"),
        ({"shards": None}, "no sharded array"),
        ({"compressors": [zarr.codecs.ZstdCodec()]}, "zstd"),
    ],
)
def test_arrays_that_we_do_not_write_are_told_apart(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    plain: dict[str, Any] = {
        "shape": SHAPE,
        "shards": (2, 7, 4, 6, 8),
        "chunks": (1, 1, 4, 6, 8),
        "dtype": "float32",
        "compressors": None,
    }
    zarr.create_array(tmp_path / "ours", **plain)
    ShardLayout.from_metadata(read_metadata(tmp_path / "ours"))
    zarr.create_array(tmp_path / "other", **(plain | options))
    with pytest.raises(UnsupportedLayoutError, match=reason):
        ShardLayout.from_metadata(read_metadata(tmp_path / "other"))


def test_metadata_that_are_missing_or_no_object_are_damage(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"zarr\.json: missing; the store is incomplete"):
        read_metadata(tmp_path)
    for content, message in (("{", "not JSON"), ("[]", "not a JSON object")):
        (tmp_path / "zarr.json").write_text(content)
        with pytest.raises(DamagedFileError, match=message):
            read_metadata(tmp_path)


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


def test_decoding_undoes_encoding_to_the_bit() -> None:
    chunk = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    chunk[1, 7] = np.nan
    out = np.empty(chunk.nbytes, np.uint8)
    decompress(compress(chunk), out)
    assert out.tobytes() == chunk.tobytes()


def test_a_field_of_equal_values_takes_less_room() -> None:
    chunk = np.full(10_000, 3.5, np.float32)
    assert len(compress(chunk)) < chunk.nbytes / 50


def test_what_is_no_chunk_of_the_size_is_refused() -> None:
    encoded = compress(np.arange(100, dtype=np.float32))
    with pytest.raises(ValueError, match=r"."):
        decompress(np.zeros(64, np.uint8), np.empty(400, np.uint8))
    with pytest.raises(ValueError, match=r"."):
        decompress(encoded, np.empty(100, np.uint8))
