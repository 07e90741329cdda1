"""Shards of Zarr v3 arrays: how they are laid out, and writing them at once.

The files are those of the `sharding_indexed` codec (Zarr v3, ZEP 2): inner chunks in C order, then
the index of (offset, length) pairs and its CRC-32C at the end. A frame is all values at one position
of the leading axes; its inner chunks split it along the channels, and each channel along its rows where these
are many. So a frame's bytes keep their order. Where the last chunk of a channel reaches beyond the rows, NaN fills it.
"""

import json
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeVar

import google_crc32c
import numcodecs.blosc  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.durable import Bytes, Checksum, Hasher, replacing, write_all
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.location import Url

# With threads, blosc lays its blocks out in the order in which they were finished: bytes would vary.
numcodecs.blosc.use_threads = False

CodecName = Literal["none", "blosc-lz4"]
Cell = tuple[int, ...]
MISSING = 2**64 - 1
_GROUP = 1 << 19  # bytes of chunks that are encoded and written together
_In = TypeVar("_In")
_Out = TypeVar("_Out")


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


def write_shard(path: Path, block: NDArray[np.float32], layout: ShardLayout) -> Checksum:
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
    index = np.full((prod(layout.chunks), 2), MISSING, dtype="<u8")
    hasher, position = Hasher(), 0
    try:
        with replacing(path) as descriptor:
            for buffers, entries in _encoded(block, layout):
                for number, length in entries:
                    index[number] = position, length
                    position += length
                hasher.update(*buffers)
                write_all(descriptor, *buffers)
            footer = _footer(index)
            hasher.update(footer)
            write_all(descriptor, footer)
        # Not before the file is on the disk: the digest takes half as long as that and runs beside it.
        return hasher.result()
    finally:
        hasher.close()


def _footer(index: NDArray[np.uint64]) -> Bytes:
    content = index.tobytes()
    return np.frombuffer(content + struct.pack("<I", google_crc32c.value(content)), np.uint8)


def _encoded(
    block: NDArray[np.float32], layout: ShardLayout
) -> Iterator[tuple[list[Bytes], list[tuple[int, int]]]]:
    """Buffers to write one after the other, each with the numbers and lengths of its chunks."""
    held = [-(-size // chunk) for size, chunk in zip(block.shape, layout.chunk, strict=True)]
    numbers = np.arange(prod(layout.chunks)).reshape(layout.chunks)[tuple(map(slice, held))].ravel().tolist()
    length = 4 * prod(layout.chunk)
    if layout.in_one_piece:
        # C order throughout: the chunks lie in the block as they will lie in the file.
        yield [block.reshape(-1).view(np.uint8)], [(number, length) for number in numbers]
        return
    chunks, step = _chunks(block, layout), max(1, _GROUP // length)
    groups = iter(lambda: list(islice(chunks, step)), [])
    start = 0
    for encoded in _ahead(_copies if layout.codec == "none" else _compress, groups):
        entries = zip(numbers[start : start + len(encoded)], map(len, encoded), strict=True)
        # Not joined: memory that has just been used is quicker than new memory.
        yield [np.frombuffer(chunk, np.uint8) for chunk in encoded], list(entries)
        start += len(encoded)


def _chunks(block: NDArray[np.float32], layout: ShardLayout) -> Iterator[NDArray[np.float32]]:
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


def _copies(chunks: Sequence[NDArray[np.float32]]) -> list[bytes]:
    return [chunk.tobytes() for chunk in chunks]


def _compress(chunks: Sequence[NDArray[np.float32]]) -> list[bytes]:
    return [numcodecs.blosc.compress(chunk, b"lz4", 5, numcodecs.blosc.SHUFFLE) for chunk in chunks]


def _ahead(function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """Results in order, computed by two threads at most three ahead: they are small beside a shard."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        waiting: deque[Future[_Out]] = deque()
        for item in items:
            if len(waiting) == 3:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()


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
