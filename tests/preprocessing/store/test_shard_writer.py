import resource
from pathlib import Path
from typing import Any

import numcodecs.blosc
import numpy as np
import pytest
import zarr

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.files import durable
from pelagos.preprocessing.store.shard_layout import ShardLayout, read_metadata
from pelagos.preprocessing.store.shard_writer import write_shard
from tests.preprocessing.sharded_array import CHUNKS, CODECS, make_array, write_array


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shard", [(2, 7), (1, 3), (8, 7)])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_zarr_reads_what_the_writer_writes(
    tmp_path: Path, values: Float32s, codec: str, shard: tuple[int, int], chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", codec, shard, chunk)
    write_array(tmp_path / "a", values)
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[:], values)


@pytest.mark.parametrize("chunk", [(4, 6), (2, 6), (1, 3)])
def test_shards_lie_in_c_order_and_end_with_their_index(
    tmp_path: Path, values: Float32s, chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", "none", chunk=chunk)
    layout = write_array(tmp_path / "a", values)
    content = (tmp_path / "a" / layout.key((0, 0, 0, 0, 0))).read_bytes()
    assert content[: values[:2].nbytes] == values[:2].tobytes()
    assert len(content) == values[:2].nbytes + 16 * 14 * (4 // chunk[0]) * (6 // chunk[1]) + 4


def test_what_reaches_beyond_the_last_row_is_no_value(tmp_path: Path, values: Float32s) -> None:
    make_array(tmp_path / "a", "none", chunk=(1, 4))
    layout = write_array(tmp_path / "a", values)
    stored = np.fromfile(tmp_path / "a" / layout.key((0, 0, 0, 0, 0)), np.float32, 2 * 7 * 4 * 8 * 8)
    assert np.isnan(stored.reshape(2, 7, 4, 8, 8)[..., 6:, :]).all()
    assert np.array_equal(stored.reshape(2, 7, 4, 8, 8)[..., :6, :], values[:2])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chunk", [(4, 6), (1, 4)])
def test_the_checksum_returned_is_that_of_the_file(
    tmp_path: Path, values: Float32s, codec: str, chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", codec, chunk=chunk)
    layout = ShardLayout.from_metadata(read_metadata(tmp_path / "a"))
    found = write_shard(tmp_path / "s", np.ascontiguousarray(values[:2]), layout)
    assert found == durable.checksum(tmp_path / "s")
    assert durable.crc32c(tmp_path / "s") == found.crc32c
    assert durable.sha256(tmp_path / "s") == found.sha256
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["s"]


def test_bytes_are_the_same_each_time(tmp_path: Path, values: Float32s) -> None:
    make_array(tmp_path / "a", "blosc-lz4")
    layout = ShardLayout.from_metadata(read_metadata(tmp_path / "a"))
    found = {write_shard(tmp_path / "s", np.ascontiguousarray(values[:2]), layout).sha256 for _ in range(5)}
    assert len(found) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("codec", CODECS)
def test_a_shard_that_the_disk_does_not_take_is_an_error_and_leaves_nothing(
    tmp_path: Path, codec: Any
) -> None:
    values = np.random.default_rng(0).normal(size=(1, 64, 4, 64, 64)).astype(np.float32)
    layout = ShardLayout(values.shape, values.shape, (1, 1, 4, 64, 64), codec)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (values.nbytes // 3, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_shard(tmp_path / "s", values, layout)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("chunk", range(5))
def test_a_chunk_that_cannot_be_encoded_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    values = np.zeros((1, 16, 4, 128, 128), np.float32)
    values[0, chunk] = np.nan
    compress = numcodecs.blosc.compress

    def fail(values: Float32s, *options: Any) -> Any:
        if np.isnan(values).any():
            raise MemoryError
        return compress(values, *options)

    monkeypatch.setattr(numcodecs.blosc, "compress", fail)
    layout = ShardLayout(values.shape, values.shape, (1, 1, 4, 128, 128), "blosc-lz4")
    with pytest.raises(MemoryError):
        write_shard(tmp_path / "s", values, layout)
    assert list(tmp_path.iterdir()) == []
