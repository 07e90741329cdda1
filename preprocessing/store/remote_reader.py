"""Remote reader: frames of an array on a server, by requests for ranges of bytes, several at a time.

A request costs more than the bytes that it brings. So chunks that follow each other are one request, and all frames of
a batch are asked for at once: 16 pairs of 262 kB at 20 ms a request take 0.07 s, through zarr-python 1.5 s.
"""

from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.location import ByteRange, Url, fetch, fetch_existing
from pelagos.preprocessing.store.frame_reader import (
    TABLE_BYTES,
    FrameReader,
    Position,
    as_bytes,
    byte_range,
    scatter,
)
from pelagos.preprocessing.store.shard_layout import (
    MISSING,
    Cell,
    Entries,
    ShardLayout,
    decode_index,
    decompress,
    index_bytes,
)

_REQUEST_BYTES = 8 << 20  # at most; longer runs of chunks are several requests, side by side


class _Chunk(NamedTuple):
    """Where a chunk lies: its shard, and the bytes there."""

    cell: Cell
    offset: int
    length: int

    @property
    def stop(self) -> int:
        return self.offset + self.length


class RemoteReader(FrameReader):
    """Reads frames of a sharded array on a server; the indices read last are kept, within 64 MiB."""

    def __init__(self, path: Url, layout: ShardLayout, table_bytes: int = TABLE_BYTES) -> None:
        self.path, self.layout = path, layout
        self._kept = max(1, table_bytes // index_bytes(layout))
        self.splits_trajectories = layout.splits_trajectories
        self._indices: dict[Cell, Entries] = {}
        self._lock = Lock()

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        self.prepare([position]).read_frame(position, buffers)

    def read_frames(self, position: Position, out: NDArray[Any]) -> None:
        """See FrameReader; all of them are asked for at once."""
        positions = [(*position[:-1], position[-1] + frame) for frame in range(len(out))]
        self.prepare(positions).read_frames(position, out)

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> "FetchedFrames":
        """A reader of these frames alone, which are fetched at once.

        Raises:
            DamagedFileError: a shard is missing or damaged, or the server is gone.
        """
        # Each once: samples of one trajectory share frames.
        frames = {position: self._locate(position) for position in dict.fromkeys(positions)}
        indices = self._read_indices({cell for cell, _ in frames.values()})
        chunks = {
            position: self._chunks(indices[cell], cell, number) for position, (cell, number) in frames.items()
        }
        contents = _fetch_chunks(
            self.path, self.layout, {chunk for some in chunks.values() for chunk in some}
        )
        encoded = {position: [contents[chunk] for chunk in some] for position, some in chunks.items()}
        return FetchedFrames(self.path, self.layout, encoded)

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

    def _chunks(self, index: Entries, cell: Cell, number: int) -> list[_Chunk]:
        """The chunks of a frame."""
        num = len(self.layout.chunk_ranges)
        entries: list[list[int]] = index[number * num : (number + 1) * num].tolist()
        if any(offset == MISSING for offset, _ in entries):
            raise DamagedFileError(f"{self.path / self.layout.key(cell)}: a chunk was never written")
        return [_Chunk(cell, offset, length) for offset, length in entries]

    def _read_indices(self, cells: set[Cell]) -> dict[Cell, Entries]:
        with self._lock:
            known = {cell: self._indices[cell] for cell in cells if cell in self._indices}
        wanted = sorted(cells - known.keys())
        # Counted from the end of the file, since its length is not known yet.
        ranges = [ByteRange(self.path / self.layout.key(cell), -index_bytes(self.layout)) for cell in wanted]
        contents = fetch_existing(ranges)
        # Outside the lock, which no request may hold up; two threads may fetch the same index, to no harm.
        found = {
            cell: _index(asked.url, content)
            for cell, asked, content in zip(wanted, ranges, contents, strict=True)
        }
        with self._lock:
            self._indices.update(found)
            while len(self._indices) > self._kept:
                del self._indices[next(iter(self._indices))]
        return known | found


def _index(url: Url, content: bytes | None) -> Entries:
    if content is None:
        raise DamagedFileError(f"{url}: the shard is missing; `pelagos verify` lists all")
    try:
        return decode_index(content)
    except ValueError as error:
        raise DamagedFileError(f"{url}: {error}; copy the store there again") from error


def _fetch_chunks(path: Url, layout: ShardLayout, chunks: set[_Chunk]) -> dict[_Chunk, Bytes]:
    """Contents of chunks; those that follow each other in a shard are views of one request's bytes."""
    requests: list[list[_Chunk]] = []
    # By shard and offset: neighbours in a file become neighbours here.
    for chunk in sorted(chunks):
        first, last = (requests[-1][0], requests[-1][-1]) if requests else (None, None)
        adjacent = last and (last.cell, last.stop) == (chunk.cell, chunk.offset)
        if first and adjacent and chunk.stop - first.offset <= _REQUEST_BYTES:
            requests[-1].append(chunk)
        else:
            requests.append([chunk])
    ranges = [ByteRange(path / layout.key(run[0].cell), run[0].offset, run[-1].stop) for run in requests]
    found: dict[_Chunk, Bytes] = {}
    for run, content in zip(requests, fetch(ranges), strict=True):
        # Views: a copy of each chunk would double the memory of a batch.
        values, start = np.frombuffer(content, np.uint8), run[0].offset
        found |= {chunk: values[chunk.offset - start : chunk.stop - start] for chunk in run}
    return found


class FetchedFrames(FrameReader):
    """Reads frames whose bytes have been fetched."""

    def __init__(self, path: Url, layout: ShardLayout, encoded: Mapping[Position, Sequence[Bytes]]) -> None:
        """Take the encoded chunks of each frame."""
        self._path, self._layout, self._encoded = path, layout, encoded
        self._chunk_bytes = layout.chunk_bytes

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        flat = as_bytes(buffers)
        for held, encoded in zip(self._layout.chunk_ranges, self._encoded[position], strict=True):
            if parts := byte_range(flat, *held):
                scatter(self._decoded(position, encoded), parts)

    def _decoded(self, position: Position, encoded: Bytes) -> Bytes:
        if self._layout.codec != "none":
            values = np.empty(self._chunk_bytes, np.uint8)
            try:
                decompress(encoded, values)
            except ValueError as error:
                raise DamagedFileError(
                    f"{self._path}{position}: a chunk cannot be decoded: {error}"
                ) from error
            return values
        if len(encoded) != self._chunk_bytes:
            raise DamagedFileError(f"{self._path}{position}: a chunk of {len(encoded)} bytes")
        return encoded
