"""Shards of Zarr v3 arrays: how they are laid out, and writing them at once.

The files are those of the `sharding_indexed` codec (Zarr v3, ZEP 2): inner chunks in C order, then
the index of (offset, length) pairs and its CRC-32C at the end. A frame is all values at one position
of the leading axes; its inner chunks split it along the channels, and each channel along its rows where these
are many. So a frame's bytes keep their order. Where the last chunk of a channel reaches beyond the rows, NaN fills it.
"""

import json
import struct
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Literal

import google_crc32c
import numcodecs.blosc
import numpy as np

from pelagos.preprocessing.array_types import Bytes, Float32s
from pelagos.preprocessing.durable import Checksum, Digest, replacing, write_all
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.location import Url

# With threads, blosc lays its blocks out in the order in which they were finished: bytes would vary.
numcodecs.blosc.use_threads = False

CodecName = Literal["none", "blosc-lz4"]
Cell = tuple[int, ...]
MISSING = 2**64 - 1
_GROUP = 1 << 18  # bytes of chunks that are encoded and written together


class UnsupportedLayoutError(Exception):
    """The array is valid Zarr, but not of the kind that this module reads."""


@dataclass(frozen=True)
class ShardLayout:
    """How a float32 array is cut into shards and these into chunks.

    Attributes:
        shape: of the array: leading axes, then (channel, y, x).
        shard: of a shard: along the last three axes one frame, and what the last chunk of rows reaches beyond it.
        chunk: of an inner chunk: 1 along the leading axes, whole along x, and along y unless it has one channel.
        codec: of the inner chunks.
    """

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    codec: CodecName

    @property
    def frame(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.shape[-3:]

    @property
    def cells(self) -> tuple[int, ...]:
        """The number of shards along each axis."""
        return tuple(-(-size // shard) for size, shard in zip(self.shape, self.shard, strict=True))

    @property
    def chunks(self) -> tuple[int, ...]:
        """The number of chunks of a shard along each axis."""
        return tuple(shard // chunk for shard, chunk in zip(self.shard, self.chunk, strict=True))

    @property
    def splits_trajectories(self) -> bool:
        """Whether the frames of a trajectory lie in several shards."""
        return len(self.cells) > 4 and self.cells[1] > 1

    @property
    def in_one_piece(self) -> bool:
        """Whether the bytes of a shard are those of its frames in memory."""
        return self.codec == "none" and self.shard[-3:] == self.frame

    @cached_property
    def pieces(self) -> list[tuple[int, int]]:
        """The bytes of a frame, from the first to before the last, that each of its chunks holds."""
        (channels, height, width), (step, rows, _) = self.frame, self.chunk[-3:]
        row, field = 4 * width, 4 * width * height
        return [
            (channel * field + y * row, (channel + step - 1) * field + min(y + rows, height) * row)
            for channel in range(0, channels, step)
            for y in range(0, height, rows)
        ]

    def key(self, cell: Cell) -> str:
        """The shard's path inside the array's folder."""
        return "/".join(("c", *map(str, cell)))

    def block_shape(self, cell: Cell) -> tuple[int, ...]:
        """The shape of what a shard holds of the array: less than `shard` at the far edges."""
        axes = zip(self.shape, self.shard, cell, strict=True)
        return tuple(min(shard, size - shard * position) for size, shard, position in axes)

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "ShardLayout":
        """The layout that an array's `zarr.json` describes.

        Raises:
            UnsupportedLayoutError: the array is none that `write_shard` could have written.
        """
        try:
            (sharding,) = metadata["codecs"]
            inner = sharding["configuration"]
            layout = cls(
                shape=tuple(metadata["shape"]),
                shard=tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
                chunk=tuple(inner["chunk_shape"]),
                codec=_codec_of(inner["codecs"]),
            )
            leading = (1,) * (len(layout.shape) - 3)
            (channels, height, width), (step, rows, _) = layout.frame, layout.chunk[-3:]
            checks = {
                "data type": metadata["data_type"] == "float32",
                "keys": metadata["chunk_key_encoding"]["configuration"]["separator"] == "/",
                "sharding": sharding["name"] == "sharding_indexed",
                "index": [codec["name"] for codec in inner["index_codecs"]] == ["bytes", "crc32c"],
                "index location": inner["index_location"] == "end",
                "whole frames": layout.shard[-3:] == (channels, -(-height // rows) * rows, width),
                "chunks": layout.chunk == (*leading, step, rows, width) and (step == 1 or rows == height),
                "byte order of this machine": sys.byteorder == "little",
            }
        except (KeyError, TypeError, ValueError) as error:
            raise UnsupportedLayoutError(f"no sharded array of frames: {error}") from error
        if wrong := [name for name, holds in checks.items() if not holds]:
            raise UnsupportedLayoutError(f"not as written by Pelagos: {', '.join(wrong)}")
        return layout


def _codec_of(codecs: list[dict[str, Any]]) -> CodecName:
    if codecs[0]["configuration"].get("endian", "little") != "little":
        raise ValueError("big-endian values")
    match [codec["name"] for codec in codecs]:
        case ["bytes"]:
            return "none"
        case ["bytes", "blosc"]:
            return "blosc-lz4"
        case names:
            raise ValueError(f"codecs {names}")


def write_shard(path: Path, block: Float32s, layout: ShardLayout) -> Checksum:
    """Write one shard durably, with no copy of the block in memory.

    Args:
        path: the file; its folder exists.
        block: C-contiguous values of the shard, less than a whole one at the array's far edges.
        layout: of the array.

    Returns:
        The checksum of the file.
    """
    assert block.flags.c_contiguous
    assert block.dtype == np.float32
    return _write_whole(path, block, layout) if layout.in_one_piece else _write_encoded(path, block, layout)


def _write_whole(path: Path, block: Float32s, layout: ShardLayout) -> Checksum:
    # C order throughout: the chunks lie in the block as they will lie in the file.
    length = 4 * prod(layout.chunk)
    footer = _footer(block, layout, [length] * (block.nbytes // length))
    content, digest = (block.reshape(-1).view(np.uint8), footer), Digest()
    with ThreadPoolExecutor(max_workers=1) as beside:
        # It takes as long as all else together, so it begins first and is waited for after the disk.
        hashed = beside.submit(digest.sha256, *content)
        with replacing(path) as descriptor:
            write_all(descriptor, *content, on_block=digest.crc32c)
        hashed.result()
    return digest.result()


def _write_encoded(path: Path, block: Float32s, layout: ShardLayout) -> Checksum:
    with replacing(path) as descriptor:
        encoder = _Encoder(descriptor, block, layout)
        with ThreadPoolExecutor(max_workers=1) as beside:
            other = beside.submit(encoder.work)
            encoder.work()
            other.result()
        footer, digest = _footer(block, layout, encoder.lengths), encoder.digest
        write_all(descriptor, footer, position=digest.bytes)
        digest.update(footer)
    return digest.result()


class _Encoder:
    """Chunks on their way into a file: encoded, digested and written group by group by several threads.

    Each thread does all of it, the digests in turn: with a thread for each kind of work, more of them wait.

    Attributes:
        lengths: of the chunks that are digested.
        digest: of their bytes.
    """

    def __init__(self, descriptor: int, block: Float32s, layout: ShardLayout) -> None:
        self.lengths: list[int] = []
        self.digest = Digest()
        self._descriptor = descriptor
        self._encode = _copies if layout.codec == "none" else _compress
        chunks, step = _chunks(block, layout), max(1, _GROUP // (4 * prod(layout.chunk)))
        self._groups, self._taking = enumerate(iter(lambda: list(islice(chunks, step)), [])), Lock()
        self._turn, self._number, self._failed = Condition(), 0, False

    def work(self) -> None:
        """Do one group after the other, until there is none or another thread has failed."""
        try:
            while not self._failed and (taken := self._take()) is not None:
                self._write(*taken)
        except BaseException:
            with self._turn:
                self._failed = True
                self._turn.notify_all()
            raise

    def _take(self) -> tuple[int, list[Float32s]] | None:
        with self._taking:
            return next(self._groups, None)

    def _write(self, number: int, chunks: list[Float32s]) -> None:
        # Not joined: memory that has just been used is quicker than new memory.
        encoded = [np.frombuffer(chunk, np.uint8) for chunk in self._encode(chunks)]
        with self._turn:
            self._turn.wait_for(lambda: self._failed or self._number == number)
            if self._failed:
                return
            position = self.digest.bytes
            self.digest.update(*encoded)
            self.lengths += map(len, encoded)
            self._number += 1
            self._turn.notify_all()
        write_all(self._descriptor, *encoded, position=position)


def _footer(block: Float32s, layout: ShardLayout, lengths: Sequence[int]) -> Bytes:
    """The index, given how long the chunks are that the block fills, one after the other, and its CRC-32C."""
    index = np.full((*layout.chunks, 2), MISSING, dtype="<u8")
    held = [-(-size // chunk) for size, chunk in zip(block.shape, layout.chunk, strict=True)]
    ends = np.cumsum(lengths)
    index[tuple(map(slice, held))] = np.stack([ends - lengths, lengths], axis=-1).reshape(*held, 2)
    content = index.tobytes()
    return np.frombuffer(content + struct.pack("<I", google_crc32c.value(content)), np.uint8)


def _chunks(block: Float32s, layout: ShardLayout) -> Iterator[Float32s]:
    """Chunks in the order of the file; of a block they are views, unless they reach beyond its rows."""
    if layout.shard[-3:] == layout.frame:
        yield from block.reshape(-1, prod(layout.chunk))
        return
    rows = layout.chunk[-2]
    for field in block.reshape(-1, *layout.frame[1:]):
        for y in range(0, len(field), rows):
            chunk = field[y : y + rows]
            beyond = ((0, rows - len(chunk)), (0, 0))
            yield np.pad(chunk, beyond, constant_values=np.nan) if len(chunk) < rows else chunk


def _copies(chunks: Sequence[Float32s]) -> list[bytes]:
    return [chunk.tobytes() for chunk in chunks]


def _compress(chunks: Sequence[Float32s]) -> list[bytes]:
    return [numcodecs.blosc.compress(chunk, b"lz4", 5, numcodecs.blosc.SHUFFLE) for chunk in chunks]


def read_metadata(path: Path | Url) -> dict[str, Any]:
    """What the `zarr.json` of an array or group says.

    Raises:
        DamagedFileError: there is none, or it is no JSON object.
    """
    file = path / "zarr.json"
    try:
        metadata = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedFileError(f"{file}: missing; the store is incomplete") from error
    except ValueError as error:
        raise DamagedFileError(f"{file}: not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise DamagedFileError(f"{file}: not a JSON object")
    return metadata
