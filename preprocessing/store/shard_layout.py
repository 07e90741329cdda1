"""Shard layout: how a Zarr v3 array is cut into shards, and these into chunks.

The files are those of the `sharding_indexed` codec (Zarr v3, ZEP 2): inner chunks in C order, then the index of
(offset, length) pairs and its CRC-32C. A frame is all values at one position of the leading axes; its chunks split it
along the channels, or where a channel is large along its rows.
"""

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.location import Url

CodecName = Literal["none", "blosc-lz4"]
Cell = tuple[int, ...]
"""A shard's position in the grid of shards."""
MISSING = 2**64 - 1
"""Offset and length, in an index, of a chunk that was never written."""


class UnsupportedLayoutError(Exception):
    """A valid Zarr array, but not one whose layout ShardLayout describes."""


@dataclass(frozen=True)
class ShardLayout:
    """How a float32 array is cut into shards and these into chunks.

    Chunks cut a channel along its rows alone, so that in C order they are the frame's bytes: without a codec a frame is
    read by one system call.

    Attributes:
        shape: of the array: leading axes, then (channel, y, x).
        shard: of a shard: one frame along the last three axes, padded where the rows of its last chunks end beyond it.
        chunk: of an inner chunk: 1 along the leading axes, all of x, and all of y unless it has one channel.
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
        """The shape of the part of the array that a shard holds: less than `shard` at the far edges."""
        axes = zip(self.shape, self.shard, cell, strict=True)
        return tuple(min(shard, size - shard * position) for size, shard, position in axes)

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "ShardLayout":
        """The layout that an array's `zarr.json` describes.

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
            )
            # Whatever is not exactly as we write it is left to zarr-python: slower, but never misread.
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
