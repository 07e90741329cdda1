"""Shard layout: how a Zarr v3 array is cut into shards, these into chunks, and what the bytes of both are.

The files are those of the `sharding_indexed` codec (Zarr v3, ZEP 2): inner chunks in C order, then the index of
(offset, length) pairs and its CRC-32C. A frame is all values at one position of the leading axes; its chunks split it
along the channels, or where a channel is large along its rows.
"""

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes, Ints
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import write_bytes
from pelagos.preprocessing.files.location import Url

CodecName = Literal["none", "blosc-lz4"]
TypeName = Literal["float32", "float16"]
Cell = tuple[int, ...]
"""A shard's position in the grid of shards."""
MISSING = 2**64 - 1
"""Offset and length, in an index, of a chunk that was never written."""
Entries = NDArray[np.uint64]
"""(chunk, 2) offset and length [bytes] of the chunks of a shard, in C order; MISSING for those never written."""

# With threads, Blosc lays its blocks out in the order in which they were finished: the bytes of stores would vary.
# Those who read have threads of their own.
numcodecs.blosc.use_threads = False


class UnsupportedLayoutError(Exception):
    """A valid Zarr array, but not one whose layout ShardLayout describes."""


@dataclass(frozen=True)
class ShardLayout:
    """How an array is cut into shards and these into chunks.

    Chunks cut a channel along its rows alone, so that in C order they are the frame's bytes: without a codec a frame is
    read by one system call.

    Attributes:
        shape: the array's shape: leading axes, then (channel, y, x).
        shard: a shard's shape: one frame along the last three axes, padded where its last chunks end beyond it.
        chunk: an inner chunk's shape: 1 along the leading axes, all of x, and all of y unless it has one channel.
        codec: the codec of the inner chunks.
        dtype: the type of the values.
    """

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    codec: CodecName
    dtype: TypeName = "float32"

    @property
    def item_bytes(self) -> int:
        """The size of a value."""
        return np.dtype(self.dtype).itemsize

    @property
    def chunk_bytes(self) -> int:
        """The size of a chunk in memory."""
        return self.item_bytes * prod(self.chunk)

    @property
    def frame(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return self.shape[-3:]

    @property
    def shard_counts(self) -> tuple[int, ...]:
        """The number of shards along each axis."""
        return tuple(-(-size // shard) for size, shard in zip(self.shape, self.shard, strict=True))

    @property
    def chunk_counts(self) -> tuple[int, ...]:
        """The number of chunks of a shard along each axis."""
        return tuple(shard // chunk for shard, chunk in zip(self.shard, self.chunk, strict=True))

    @property
    def splits_trajectories(self) -> bool:
        """Whether the frames of a trajectory lie in several shards."""
        return len(self.shard_counts) > 4 and self.shard_counts[1] > 1

    @property
    def contiguous(self) -> bool:
        """Whether the bytes of a shard are those of its frames in memory, one frame after the other."""
        return self.codec == "none" and self.shard[-3:] == self.frame

    @cached_property
    def chunk_ranges(self) -> list[tuple[int, int]]:
        """The range of a frame's bytes that each of its chunks holds."""
        (channels, height, width), (step, rows, _) = self.frame, self.chunk[-3:]
        row = self.item_bytes * width
        field = row * height
        return [
            (channel * field + y * row, (channel + step - 1) * field + min(y + rows, height) * row)
            for channel in range(0, channels, step)
            for y in range(0, height, rows)
        ]

    def key(self, cell: Cell) -> str:
        """The shard's path inside the array's folder."""
        return "/".join(("c", *map(str, cell)))

    def block_shape(self, cell: Cell) -> tuple[int, ...]:
        """The shape of the part of the array that a shard holds: less than `shard` at the far edges."""
        axes = zip(self.shape, self.shard, cell, strict=True)
        return tuple(min(shard, size - shard * position) for size, shard, position in axes)

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any], dtype: TypeName = "float32") -> "ShardLayout":
        """The layout that an array's `zarr.json` describes, whose values are of this type.

        Raises:
            UnsupportedLayoutError: `write_shard` could not have written the array.
        """
        try:
            (sharding,) = metadata["codecs"]
            inner = sharding["configuration"]
            layout = cls(
                shape=tuple(metadata["shape"]),
                shard=tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"]),
                chunk=tuple(inner["chunk_shape"]),
                codec=_codec_of(inner["codecs"]),
                dtype=dtype,
            )
            # Whatever is not exactly as we write it is left to zarr-python: slower, but never misread.
            leading = (1,) * (len(layout.shape) - 3)
            (channels, height, width), (step, rows, _) = layout.frame, layout.chunk[-3:]
            checks = {
                "data type": metadata["data_type"] == dtype,
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


def consolidate_metadata(folder: Path) -> None:
    """Copy the metadata of all arrays below a group into the group's, so that opening it reads one file."""
    root = read_metadata(folder)
    metadata = dict(_members(folder, folder))
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": metadata}
    # Sorted, so that the bytes do not depend on the order of a directory listing.
    write_bytes(folder / "zarr.json", json.dumps(root, indent=2, sort_keys=True).encode())


def _members(root: Path, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The arrays and groups below a group, by their paths from the root."""
    for below in folder.iterdir():
        if (below / "zarr.json").is_file():
            metadata = read_metadata(below)
            yield str(below.relative_to(root)), metadata
            # An array has shards below, a million of them maybe.
            if metadata.get("node_type") == "group":
                yield from _members(root, below)


def index_bytes(layout: ShardLayout) -> int:
    """The size of an index."""
    return 16 * prod(layout.chunk_counts) + 4


def encode_index(entries: Entries) -> Bytes:
    """The bytes of an index: its entries and their CRC-32C.

    >>> decode_index(encode_index(np.array([[0, 5], [5, 7]], np.uint64)).tobytes()).tolist()
    [[0, 5], [5, 7]]
    """
    # Little-endian on any machine, as the array's metadata say of its index.
    content = entries.astype("<u8").tobytes()
    return np.frombuffer(content + struct.pack("<I", google_crc32c.value(content)), np.uint8)


def decode_index(content: bytes) -> Entries:
    """The entries that an index holds.

    Raises:
        ValueError: it is torn or damaged.
    """
    if len(content) < 4 or google_crc32c.value(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
        raise ValueError("the shard's index is torn or damaged")
    return np.frombuffer(content[:-4], "<u8").reshape(-1, 2)


def frame_offsets(entries: Entries, layout: ShardLayout) -> Ints:
    """(frame,) where each frame of a shard lies in one piece, as it is in memory; -1 where it does not."""
    chunks = entries.reshape(-1, len(layout.chunk_ranges), 2).astype(np.int64)
    # MISSING becomes -1. Others may have written chunks in another order, or with gaps.
    contiguous = chunks[:, 0, 0] >= 0
    contiguous &= layout.contiguous
    contiguous &= (chunks[:, :, 1] == layout.chunk_bytes).all(axis=1)
    contiguous &= (chunks[:, 1:, 0] == chunks[:, :-1].sum(axis=-1)).all(axis=1)
    return np.where(contiguous, chunks[:, 0, 0], -1)


def compress(chunk: NDArray[Any]) -> Bytes:
    """The bytes of a chunk encoded by Blosc with LZ4, the one codec beside none."""
    return np.frombuffer(numcodecs.blosc.compress(chunk, b"lz4", 5, numcodecs.blosc.SHUFFLE), np.uint8)


def decompress(encoded: Bytes, out: Bytes) -> None:
    """Decode a chunk into memory of its size.

    Raises:
        ValueError: the bytes are no chunk of that size.
    """
    try:
        numcodecs.blosc.decompress(encoded, out)
    # numcodecs has no error of its own for damage.
    except RuntimeError as error:
        raise ValueError(str(error)) from error
