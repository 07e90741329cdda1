"""Frames of an array on a server: ranges of bytes of its shards, several at a time.

A request costs more than the bytes that it brings. So chunks that follow each other are one request, and
whoever knows which frames come next asks for all of them at once.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from threading import Lock
from typing import Any

import google_crc32c
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes, Float32s
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.location import ByteRange, Url, fetch, fetch_existing
from pelagos.preprocessing.store.frame_reader import FrameReader, Position
from pelagos.preprocessing.store.scatter import as_bytes, byte_range, scatter
from pelagos.preprocessing.store.shard_layout import MISSING, Cell, ShardLayout

_LARGEST = 8 << 20  # bytes of a request: more are several, side by side
_Place = tuple[Cell, int, int]  # of a chunk: shard, offset, length


class RemoteReader(FrameReader):
    """Reads frames of a sharded array on a server.

    Indices are read once and kept.
    """

    def __init__(self, path: Url, layout: ShardLayout) -> None:
        self.path, self.layout = path, layout
        self._indices: dict[Cell, list[list[int]]] = {}
        self.splits_trajectories = layout.splits_trajectories
        self._lock = Lock()

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        self.prepare([position]).read_frame(position, buffers)

    def read_frames(self, position: Position, out: Float32s) -> None:
        """See FrameReader."""
        positions = [(*position[:-1], position[-1] + frame) for frame in range(len(out))]
        self.prepare(positions).read_frames(position, out)

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> "FetchedFrames":
        """A reader of these frames alone, which are fetched at once.

        Raises:
            DamagedFileError: a shard is missing or damaged, or the server is gone.
        """
        frames = {position: self._locate(position) for position in dict.fromkeys(positions)}
        self._read_indices({cell for cell, _ in frames.values()})
        places = {position: self._places(*frame) for position, frame in frames.items()}
        contents = _fetched(self.path, self.layout, {place for chunks in places.values() for place in chunks})
        chunks = {position: [contents[place] for place in held] for position, held in places.items()}
        return FetchedFrames(self.path, self.layout, chunks)

    def _locate(self, position: Position) -> tuple[Cell, int]:
        """The shard that holds a frame, and the frame's number in it."""
        cell: Cell = ()
        number = 0
        for value, size, per_shard in zip(position, self.layout.shape, self.layout.shard, strict=False):
            if not 0 <= value < size:
                raise IndexError(f"{self.path.name}{position}: the array has the shape {self.layout.shape}")
            cell += (value // per_shard,)
            number = number * per_shard + value % per_shard
        return (*cell, 0, 0, 0), number

    def _places(self, cell: Cell, number: int) -> list[_Place]:
        num = len(self.layout.pieces)
        entries = self._indices[cell][number * num : (number + 1) * num]
        if any(offset == MISSING for offset, _ in entries):
            raise DamagedFileError(f"{self.path / self.layout.key(cell)}: a chunk was never written")
        return [(cell, offset, length) for offset, length in entries]

    def _read_indices(self, cells: set[Cell]) -> None:
        wanted = sorted(cells - self._indices.keys())
        length = 16 * prod(self.layout.chunks) + 4
        spans = [ByteRange(self.path / self.layout.key(cell), -length) for cell in wanted]
        found = {
            cell: _index(span, content)
            for cell, span, content in zip(wanted, spans, fetch_existing(spans), strict=True)
        }
        with self._lock:
            self._indices.update(found)


def _index(span: ByteRange, content: bytes | None) -> list[list[int]]:
    if content is None:
        raise DamagedFileError(f"{span.url}: the shard is missing; `pelagos verify` lists all")
    if google_crc32c.value(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
        raise DamagedFileError(
            f"{span.url}: the shard's index is torn or damaged; copy the store there again"
        )
    entries: list[list[int]] = np.frombuffer(content[:-4], "<u8").reshape(-1, 2).tolist()
    return entries


def _fetched(path: Url, layout: ShardLayout, places: set[_Place]) -> dict[_Place, Bytes]:
    """Contents of chunks; those that follow each other in a shard are views of one request's bytes."""
    runs: list[list[_Place]] = []
    for place in sorted(places):
        cell, offset, length = place
        last = runs[-1][-1] if runs else ((), 0, 0)
        adjacent = last[0] == cell and sum(last[1:]) == offset
        if adjacent and offset + length - runs[-1][0][1] <= _LARGEST:
            runs[-1].append(place)
        else:
            runs.append([place])
    spans = [ByteRange(path / layout.key(run[0][0]), run[0][1], sum(run[-1][1:])) for run in runs]
    found: dict[_Place, Bytes] = {}
    for run, content in zip(runs, fetch(spans), strict=True):
        values, start = np.frombuffer(content, np.uint8), run[0][1]
        found |= {place: values[place[1] - start : sum(place[1:]) - start] for place in run}
    return found


class FetchedFrames(FrameReader):
    """Reads frames whose bytes have been fetched."""

    def __init__(self, path: Url, layout: ShardLayout, chunks: Mapping[Position, Sequence[Bytes]]) -> None:
        self._path, self._layout, self._chunks = path, layout, chunks
        self._chunk_bytes = 4 * prod(layout.chunk)

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        flat = as_bytes(buffers)
        for piece, chunk in zip(self._layout.pieces, self._chunks[position], strict=True):
            if parts := byte_range(flat, *piece):
                scatter(self._decoded(position, chunk), parts)

    def _decoded(self, position: Position, chunk: Bytes) -> Bytes:
        if self._layout.codec != "none":
            values = np.empty(self._chunk_bytes, np.uint8)
            try:
                numcodecs.blosc.decompress(chunk, values)
            except (RuntimeError, ValueError) as error:
                raise DamagedFileError(
                    f"{self._path}{position}: a chunk cannot be decoded: {error}"
                ) from error
            return values
        if len(chunk) != self._chunk_bytes:
            raise DamagedFileError(f"{self._path}{position}: a chunk of {len(chunk)} bytes")
        return chunk
