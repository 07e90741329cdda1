from pathlib import Path
from typing import Any

import pytest
import zarr

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.shard_layout import ShardLayout, UnsupportedLayoutError, read_metadata
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
