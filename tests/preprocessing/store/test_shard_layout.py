import os
import resource
import struct
import threading
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from pelagos.preprocessing import durable
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.open_reader import open_reader
from pelagos.preprocessing.store.shard_layout import ShardLayout, read_metadata, write_shard
from pelagos.preprocessing.store.shard_reader import ShardReader
from pelagos.preprocessing.store.zarr_reader import ZarrReader

SHAPE = (5, 7, 4, 6, 8)
CODECS = ["none", "blosc-lz4"]
CHUNKS = [
    (4, 6),
    (2, 6),
    (1, 6),
    (1, 3),
    (1, 4),
    (1, 1),
]  # channels and rows; 4 rows reach beyond the 6 there are


def make_array(
    folder: Path, codec: str, shard: tuple[int, int] = (2, 7), chunk: tuple[int, int] = (4, 6)
) -> zarr.Array[Any]:
    blosc = BloscCodec(typesize=4, cname="lz4", clevel=5, shuffle="shuffle", blocksize=0)
    return zarr.create_array(
        folder,
        shape=SHAPE,
        shards=(*shard, 4, -(-6 // chunk[1]) * chunk[1], 8),
        chunks=(1, 1, *chunk, 8),
        dtype="float32",
        compressors=None if codec == "none" else [blosc],
        fill_value=np.nan,
    )


def write_all(folder: Path, values: np.ndarray[Any, Any]) -> ShardLayout:
    layout = ShardLayout.from_metadata(read_metadata(folder))
    for i, j in np.ndindex(layout.cells[:2]):
        rows, columns = (slice(k * n, (k + 1) * n) for k, n in zip((i, j), layout.shard[:2], strict=True))
        file = folder / layout.key((i, j, 0, 0, 0))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_shard(file, np.ascontiguousarray(values[rows, columns]), layout)
    return layout


@pytest.fixture
def values() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shard", [(2, 7), (1, 3), (8, 7)])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_zarr_reads_what_the_writer_writes(
    tmp_path: Path, values: Any, codec: str, shard: tuple[int, int], chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", codec, shard, chunk)
    write_all(tmp_path / "a", values)
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[:], values)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_reader_reads_what_zarr_writes(
    tmp_path: Path, values: Any, codec: str, chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", codec, (2, 3), chunk)[:] = values
    reader = open_reader(tmp_path / "a")
    assert isinstance(reader, ShardReader)
    out = np.empty(SHAPE[1:], np.float32)
    for i in range(SHAPE[0]):
        reader.read_frames((i, 0), out)
        assert np.array_equal(out, values[i])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_frame_is_spread_over_several_buffers(
    tmp_path: Path, values: Any, codec: str, chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", codec, chunk=chunk)
    reader = ShardReader(tmp_path / "a", write_all(tmp_path / "a", values))
    first, second = np.empty((1, 6, 8), np.float32), np.empty((2, 6, 8), np.float32)
    reader.read_frame((3, 5), [first, second])
    assert np.array_equal(first, values[3, 5, :1])
    assert np.array_equal(second, values[3, 5, 1:3])


@pytest.mark.parametrize("chunk", [(4, 6), (2, 6), (1, 3)])
def test_shards_lie_in_c_order_and_end_with_their_index(
    tmp_path: Path, values: Any, chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", "none", chunk=chunk)
    layout = write_all(tmp_path / "a", values)
    content = (tmp_path / "a" / layout.key((0, 0, 0, 0, 0))).read_bytes()
    assert content[: values[:2].nbytes] == values[:2].tobytes()
    assert len(content) == values[:2].nbytes + 16 * 14 * (4 // chunk[0]) * (6 // chunk[1]) + 4


@pytest.mark.parametrize("chunk", [(4, 6), (2, 6), (1, 3)])
def test_frames_their_first_channels_and_trajectories_are_one_system_call(
    tmp_path: Path, values: Any, chunk: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_array(tmp_path / "a", "none", chunk=chunk)
    reader = ShardReader(tmp_path / "a", write_all(tmp_path / "a", values))
    calls: list[int] = []
    preadv = os.preadv

    def counted(*arguments: Any) -> int:
        calls.append(preadv(*arguments))
        return calls[-1]

    monkeypatch.setattr(os, "preadv", counted)
    first, second, trajectory = (np.empty((num, 6, 8), np.float32) for num in (1, 3, 28))
    reader.read_frame((1, 2), [first, second])
    reader.read_frames((3, 0), trajectory.reshape(7, 4, 6, 8))
    reader.read_frame((2, 6), [part := np.empty((3, 6, 8), np.float32)])
    assert calls == [values[0, 0].nbytes, values[0].nbytes, values[0, 0, :3].nbytes]
    assert np.array_equal(part, values[2, 6, :3])
    assert np.array_equal(np.concatenate([first, second]), values[1, 2])
    assert np.array_equal(trajectory.reshape(7, 4, 6, 8), values[3])


def test_what_reaches_beyond_the_last_row_is_no_value(tmp_path: Path, values: Any) -> None:
    make_array(tmp_path / "a", "none", chunk=(1, 4))
    layout = write_all(tmp_path / "a", values)
    stored = np.fromfile(tmp_path / "a" / layout.key((0, 0, 0, 0, 0)), np.float32, 2 * 7 * 4 * 8 * 8)
    assert np.isnan(stored.reshape(2, 7, 4, 8, 8)[..., 6:, :]).all()
    assert np.array_equal(stored.reshape(2, 7, 4, 8, 8)[..., :6, :], values[:2])


@pytest.mark.parametrize("chunk", [(2, 3), (4, 4)])
def test_other_chunks_are_read_through_zarr(tmp_path: Path, values: Any, chunk: tuple[int, int]) -> None:
    make_array(tmp_path / "a", "none", chunk=chunk)[:] = values
    reader, out = open_reader(tmp_path / "a"), np.empty(SHAPE[1:], np.float32)
    assert isinstance(reader, ZarrReader)
    reader.read_frames((4, 0), out)
    assert np.array_equal(out, values[4])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chunk", [(4, 6), (1, 4)])
def test_the_checksum_returned_is_that_of_the_file(
    tmp_path: Path, values: Any, codec: str, chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", codec, chunk=chunk)
    layout = ShardLayout.from_metadata(read_metadata(tmp_path / "a"))
    found = write_shard(tmp_path / "s", np.ascontiguousarray(values[:2]), layout)
    assert found == durable.checksum(tmp_path / "s")
    assert durable.crc32c(tmp_path / "s") == found.crc32c
    assert durable.sha256(tmp_path / "s") == found.sha256
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["s"]


def test_bytes_are_the_same_each_time(tmp_path: Path, values: Any) -> None:
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

    def fail(values: Any, *options: Any) -> Any:
        if np.isnan(values).any():
            raise MemoryError
        return compress(values, *options)

    monkeypatch.setattr(numcodecs.blosc, "compress", fail)
    layout = ShardLayout(values.shape, values.shape, (1, 1, 4, 128, 128), "blosc-lz4")
    with pytest.raises(MemoryError):
        write_shard(tmp_path / "s", values, layout)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    make_array(tmp_path / "a", "none")
    with pytest.raises(DamagedFileError, match=r"a/c/2/0/0/0/0: the shard is missing"):
        open_reader(tmp_path / "a").read_frame((4, 0), [np.empty(SHAPE[2:], np.float32)])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("place", [-3, -30])
def test_a_damaged_index_is_found_when_the_shard_is_opened(
    tmp_path: Path, values: Any, codec: str, place: int
) -> None:
    make_array(tmp_path / "a", codec)
    layout = write_all(tmp_path / "a", values)
    file = tmp_path / "a" / layout.key((1, 0, 0, 0, 0))
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"c/1/0/0/0/0: the shard's index is torn or damaged"):
        open_reader(tmp_path / "a").read_frame((2, 0), [np.empty(SHAPE[2:], np.float32)])


def test_a_truncated_shard_is_found_when_it_is_opened(tmp_path: Path, values: Any) -> None:
    make_array(tmp_path / "a", "none")
    file = tmp_path / "a" / write_all(tmp_path / "a", values).key((0, 0, 0, 0, 0))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DamagedFileError, match="torn or damaged"):
        open_reader(tmp_path / "a").read_frame((0, 0), [np.empty(SHAPE[2:], np.float32)])


def test_a_chunk_that_cannot_be_decoded_is_named(tmp_path: Path, values: Any) -> None:
    make_array(tmp_path / "a", "blosc-lz4")
    file = tmp_path / "a" / write_all(tmp_path / "a", values).key((0, 0, 0, 0, 0))
    content = bytearray(file.read_bytes())
    content[:16] = bytes(16)
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"c/0/0/0/0/0: a chunk cannot be decoded"):
        open_reader(tmp_path / "a").read_frame((0, 0), [np.empty(SHAPE[2:], np.float32)])


def test_a_chunk_that_was_never_written_is_no_fill_value(tmp_path: Path, values: Any) -> None:
    make_array(tmp_path / "a", "none")[0, 0] = values[0, 0]
    with pytest.raises(DamagedFileError, match="never written"):
        open_reader(tmp_path / "a").read_frame((0, 1), [np.empty(SHAPE[2:], np.float32)])


def test_positions_outside_the_array_are_refused(tmp_path: Path, values: Any) -> None:
    make_array(tmp_path / "a", "none")
    reader = ShardReader(tmp_path / "a", write_all(tmp_path / "a", values))
    with pytest.raises(IndexError, match="shape"):
        reader.read_frame((5, 0), [np.empty(SHAPE[2:], np.float32)])
    with pytest.raises(IndexError, match="shape"):
        reader.read_frame((-1, 0), [np.empty(SHAPE[2:], np.float32)])


def test_other_codecs_are_read_through_zarr(
    tmp_path: Path, values: Any, caplog: pytest.LogCaptureFixture
) -> None:
    array = zarr.create_array(
        tmp_path / "a", shape=SHAPE, shards=(2, 7, 4, 6, 8), chunks=(1, 1, 4, 6, 8), dtype="float32"
    )
    array[:] = values
    reader = open_reader(tmp_path / "a")
    assert isinstance(reader, ZarrReader)
    assert "slower" in caplog.text
    assert "zstd" in caplog.text
    first, second = np.empty((1, 6, 8), np.float32), np.empty((2, 6, 8), np.float32)
    reader.read_frame((3, 5), [first, second])
    assert np.array_equal(np.concatenate([first, second]), values[3, 5, :3])
    out = np.empty((3, *SHAPE[2:]), np.float32)
    reader.read_frames((4, 2), out)
    assert np.array_equal(out, values[4, 2:5])


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
def test_threads_share_a_reader_that_keeps_few_files_open(
    tmp_path: Path, values: Any, codec: Any, mapped: bool
) -> None:
    make_array(tmp_path / "a", codec, (1, 2))
    reader = ShardReader(tmp_path / "a", write_all(tmp_path / "a", values), max_open=2)
    reader = reader.mapped if mapped else reader
    wrong: list[tuple[int, int]] = []

    def read(seed: int) -> None:
        rng, out = np.random.default_rng(seed), np.empty(SHAPE[2:], np.float32)
        for _ in range(300):
            i, t = int(rng.integers(SHAPE[0])), int(rng.integers(SHAPE[1]))
            reader.read_frame((i, t), [out])
            if not np.array_equal(out, values[i, t]):
                wrong.append((i, t))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    open_files = [file.resolve() for file in Path("/proc/self/fd").iterdir() if file.exists()]
    assert sum(tmp_path in file.parents for file in open_files) <= 2
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert sum(str(tmp_path) in line for line in maps) <= 2


def test_an_index_that_points_beyond_the_file_is_damage(tmp_path: Path, values: Any) -> None:
    make_array(tmp_path / "a", "none", (1, 7))
    layout = write_all(tmp_path / "a", values)
    file = tmp_path / "a" / "c/0/0/0/0/0"
    content = file.read_bytes()
    file.write_bytes(content[len(content) // 2 :])  # the index is whole, and what it points to is not
    with pytest.raises(DamagedFileError, match="c/0/0/0/0/0: the shard ends before its index says so"):
        ShardReader(tmp_path / "a", layout).read_frame((0, 0), [np.empty(SHAPE[2:], np.float32)])


def test_an_index_with_lengths_of_no_chunk_is_no_reason_to_read_beyond_it(
    tmp_path: Path, values: Any
) -> None:
    make_array(tmp_path / "a", "none", (1, 7))
    layout = write_all(tmp_path / "a", values)
    file = tmp_path / "a" / "c/0/0/0/0/0"
    content, length = bytearray(file.read_bytes()), 16 * 7
    index = np.frombuffer(content[-length - 4 : -4], "<u8").reshape(7, 2).copy()
    index[6, 0], index[6, 1] = len(content), 0  # as if the last frame began at the end of the file
    content[-length - 4 :] = index.tobytes() + struct.pack("<I", google_crc32c.value(index.tobytes()))
    file.write_bytes(content)
    reader, out = ShardReader(tmp_path / "a", layout), np.empty(SHAPE[2:], np.float32)
    assert reader.locate(np.array([0]), np.array([[5, 6]])) is None
    for one in (reader, reader.mapped):
        with pytest.raises(DamagedFileError, match="c/0/0/0/0/0: the shard ends before its index says so"):
            one.read_frame((0, 6), [out])
