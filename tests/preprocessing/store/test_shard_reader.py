import os
import struct
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google_crc32c
import numpy as np
import pytest

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.shard_reader import ShardReader
from pelagos.preprocessing.store.store import open_reader
from tests.preprocessing.sharded_array import CHUNKS, CODECS, SHAPE, make_array, write_array


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_reader_reads_what_zarr_writes(
    tmp_path: Path, values: Float32s, codec: str, chunk: tuple[int, int]
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
    tmp_path: Path, values: Float32s, codec: str, chunk: tuple[int, int]
) -> None:
    make_array(tmp_path / "a", codec, chunk=chunk)
    reader = ShardReader(tmp_path / "a", write_array(tmp_path / "a", values))
    first, second = np.empty((1, 6, 8), np.float32), np.empty((2, 6, 8), np.float32)
    reader.read_frame((3, 5), [first, second])
    assert np.array_equal(first, values[3, 5, :1])
    assert np.array_equal(second, values[3, 5, 1:3])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("rows", [range(2), range(1, 5), range(3, 6)])
def test_rows_are_read_without_the_others(
    tmp_path: Path,
    values: Float32s,
    codec: str,
    chunk: tuple[int, int],
    rows: range,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_array(tmp_path / "a", codec, chunk=chunk)
    reader = ShardReader(tmp_path / "a", write_array(tmp_path / "a", values))
    reader.read_frame((3, 5), [np.empty((1, 6, 8), np.float32)])  # opens the shard
    read: list[int] = []
    preadv = os.preadv

    def counted(*arguments: Any) -> int:
        read.append(preadv(*arguments))
        return read[-1]

    monkeypatch.setattr(os, "preadv", counted)
    first, second = (np.empty((num, len(rows), 8), np.float32) for num in (1, 2))
    reader.read_rows((3, 5), rows, 6, [first, second])
    assert np.array_equal(np.concatenate([first, second]), values[3, 5, :3, rows.start : rows.stop])
    if codec == "none":
        assert sum(read) == first.nbytes + second.nbytes


@pytest.mark.parametrize("chunk", [(4, 6), (2, 6), (1, 3)])
def test_frames_their_first_channels_and_trajectories_are_one_system_call(
    tmp_path: Path, values: Float32s, chunk: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_array(tmp_path / "a", "none", chunk=chunk)
    reader = ShardReader(tmp_path / "a", write_array(tmp_path / "a", values))
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


def test_a_chunk_that_cannot_be_decoded_is_named(tmp_path: Path, values: Float32s) -> None:
    make_array(tmp_path / "a", "blosc-lz4")
    file = tmp_path / "a" / write_array(tmp_path / "a", values).key((0, 0, 0, 0, 0))
    content = bytearray(file.read_bytes())
    content[:16] = bytes(16)
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"c/0/0/0/0/0: a chunk cannot be decoded"):
        open_reader(tmp_path / "a").read_frame((0, 0), [np.empty(SHAPE[2:], np.float32)])


def test_a_chunk_that_was_never_written_is_no_fill_value(tmp_path: Path, values: Float32s) -> None:
    make_array(tmp_path / "a", "none")[0, 0] = values[0, 0]
    with pytest.raises(DamagedFileError, match="never written"):
        open_reader(tmp_path / "a").read_frame((0, 1), [np.empty(SHAPE[2:], np.float32)])


def test_positions_outside_the_array_are_refused(tmp_path: Path, values: Float32s) -> None:
    make_array(tmp_path / "a", "none")
    reader = ShardReader(tmp_path / "a", write_array(tmp_path / "a", values))
    with pytest.raises(IndexError, match="shape"):
        reader.read_frame((5, 0), [np.empty(SHAPE[2:], np.float32)])
    with pytest.raises(IndexError, match="shape"):
        reader.read_frame((-1, 0), [np.empty(SHAPE[2:], np.float32)])


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
def test_threads_share_a_reader_that_keeps_few_files_open(
    tmp_path: Path, values: Float32s, codec: Any, mapped: bool
) -> None:
    make_array(tmp_path / "a", codec, (1, 2))
    reader = ShardReader(tmp_path / "a", write_array(tmp_path / "a", values), max_open=2)
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


def test_an_index_with_lengths_of_no_chunk_is_no_reason_to_read_beyond_it(
    tmp_path: Path, values: Float32s
) -> None:
    make_array(tmp_path / "a", "none", (1, 7))
    layout = write_array(tmp_path / "a", values)
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


def test_few_indices_are_kept_and_each_file_is_checked_once(tmp_path: Path, values: Float32s) -> None:
    keys: list[str] = []
    checks: Any = SimpleNamespace(check=lambda file, key, descriptor: keys.append(key))
    make_array(tmp_path / "a", "none", (1, 2))
    layout = write_array(tmp_path / "a", values)
    # Of 5 x 4 shards with indices of 48 bytes each.
    reader = ShardReader(tmp_path / "a", layout, checks, max_open=1, table_bytes=150)
    out = np.empty(SHAPE[2:], np.float32)
    for _ in range(2):
        for i in range(SHAPE[0]):
            for t in range(SHAPE[1]):
                reader.read_frame((i, t), [out])
                assert np.array_equal(out, values[i, t])
                assert sum(table.bytes for table in reader._tables.values()) <= 150
    assert len(keys) == len(set(keys)) == 20
