"""Shard reader: frames straight into the caller's buffers, without a codec by one system call each.

Our own, since zarr-python reads 35 to 50 times as slowly as a copy from a memory map.
"""

import os
from collections.abc import Iterable, Sequence
from copy import copy
from functools import cached_property
from math import prod
from pathlib import Path
from threading import Lock, local

import numpy as np

from pelagos.preprocessing.array_types import Bytes, Ints
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.frame_reader import (
    TABLE_BYTES,
    Buffer,
    FrameLocations,
    FrameReader,
    LocatedFrames,
    Position,
    as_bytes,
    byte_range,
    scatter,
)
from pelagos.preprocessing.store.open_shard import ChunkTable, OpenShard
from pelagos.preprocessing.store.shard_checks import NO_CHECKS, ShardChecks
from pelagos.preprocessing.store.shard_layout import MISSING, Cell, ShardLayout, decompress

_advise = getattr(os, "posix_fadvise", None)  # which macOS lacks

MAX_OPEN = 256
"""Shards that a reader keeps open."""


class ShardReader(FrameReader):
    """Reads frames of a sharded array in a folder.

    Of the files, about the `max_open` used last stay open; of the indices, the newest within 64 MiB are kept.
    """

    def __init__(
        self,
        path: Path,
        layout: ShardLayout,
        checks: ShardChecks = NO_CHECKS,
        max_open: int = MAX_OPEN,
        table_bytes: int = TABLE_BYTES,
    ) -> None:
        self.path, self.layout, self._checks = path, layout, checks
        self._max_open, self._table_bytes = max_open, table_bytes
        self._shards: dict[Cell, OpenShard] = {}
        self._tables: dict[Cell, ChunkTable] = {}
        # One byte a shard: of a million they fit into a megabyte, where a set would take a hundred.
        self._checked = bytearray(
            prod(-(-n // per) for n, per in zip(layout.shape, layout.shard, strict=True))
        )
        self._lock = Lock()
        self._scratch = local()
        self._chunk_bytes = layout.chunk_bytes
        self._frame_bytes = layout.item_bytes * prod(layout.frame)
        self._maps = False
        self.splits_trajectories = layout.splits_trajectories
        # (size, per shard) of two leading axes, also where there is one: a loop over them would take a twentieth of a
        # frame's time.
        self._leading = ((1, 1), *zip(layout.shape[:-3], layout.shard[:-3], strict=True))[-2:]

    @cached_property
    def mapped(self) -> "ShardReader":
        """The same reader for files that are most likely in memory: it copies from maps of them.

        That spares the system's copies of small pages (25 µs a pair instead of 38). From a cold disk it is six times as
        slow, since a page that is not there is fetched when it is touched. A disk that fails then, or another process
        that shortens a file, ends this process (SIGBUS).
        """
        mapped = copy(self)
        mapped._maps = True
        return mapped

    def read_frame(self, position: Position, buffers: Sequence[Buffer]) -> None:
        """See FrameReader; one system call for a frame without codec."""
        cell, number = self._locate(position)
        shard = self._shards.get(cell) or self._open(cell)
        shard.used = True
        offset = shard.table.offsets.item(number)
        if offset < 0:
            self._fill_by_chunk(shard, cell, number, buffers)
        elif self._maps and shard.address:
            scatter(shard.memory[offset : offset + self._frame_bytes].view(self.layout.dtype), buffers)
        else:
            self._fill(shard, cell, offset, buffers)

    def read_rows(self, position: Position, rows: range, height: int, buffers: Sequence[Buffer]) -> None:
        """See FrameReader; of chunks without these rows nothing is read."""
        cell, number = self._locate(position)
        shard = self._shards.get(cell) or self._open(cell)
        shard.used = True
        row = self.layout.item_bytes * self.layout.frame[-1]
        channels = as_bytes([channel for part in buffers for channel in part])
        parts = [((n * height + rows.start) * row, channel) for n, channel in enumerate(channels)]
        for (start, stop), (offset, length) in zip(
            self.layout.chunk_ranges, self._entries(shard, number), strict=True
        ):
            # Of each channel that reaches into the chunk, what the chunk has of the rows.
            near = parts[start // (height * row) : (stop - 1) // (height * row) + 1]
            found = [
                (max(first, start), part[max(start - first, 0) : max(stop - first, 0)])
                for first, part in near
            ]
            wanted = [(first - start, part) for first, part in found if len(part)]
            if not wanted:
                continue
            if offset == MISSING:
                raise DamagedFileError(f"{self._file(cell)}: a chunk was never written")
            if self.layout.codec == "none":
                for first, part in wanted:
                    self._fill(shard, cell, offset + first, [part])
            else:
                chunk = self._scratch_bytes("rows", self._chunk_bytes)
                self._decode(shard, cell, offset, length, [chunk])
                for first, part in wanted:
                    part[:] = chunk[first : first + len(part)]

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> "ShardReader":
        """The mapped reader for files that are warm."""
        return self.mapped if warm and not self._maps else self

    def locate(self, trajectories: Ints, times: Ints) -> LocatedFrames | None:
        """See FrameReader."""
        (_, per_x), (_, per_y) = self._leading
        (x, first), (y, second) = np.divmod(trajectories[:, None], per_x), np.divmod(times, per_y)
        cells = zip(np.repeat(x, times.shape[1]).tolist(), y.ravel().tolist(), strict=True)
        shards = [self._shards.get(cell) or self._open(cell) for cell in cells]
        numbers = (first * per_y + second).ravel().tolist()
        starts = [shard.table.offsets.item(number) for shard, number in zip(shards, numbers, strict=True)]
        if -1 in starts:
            return None
        opened = set(shards)
        for shard in opened:
            shard.used = True
        if self._maps and all(shard.address for shard in opened):
            starts = [shard.address + start for shard, start in zip(shards, starts, strict=True)]
            files = np.full(times.shape, -1)
        else:
            files = np.array([shard.descriptor for shard in shards]).reshape(times.shape)
        return LocatedFrames(FrameLocations(files, np.array(starts).reshape(times.shape)), opened)

    def announce(self, positions: Iterable[Position]) -> None:
        """See FrameReader."""
        for position in positions:
            cell, number = self._locate(position)
            shard = self._shards.get(cell) or self._open(cell)
            entries = self._entries(shard, number)
            (start, _), (last, length) = entries[0], entries[-1]
            if _advise is not None and MISSING not in (start, last):
                _advise(shard.descriptor, start, last + length - start, os.POSIX_FADV_WILLNEED)

    def read_frames(self, position: Position, out: Buffer) -> None:
        """See FrameReader; one system call for the frames of a shard without codec."""
        done = 0
        while done < len(out):
            here = (*position[:-1], position[-1] + done)
            done += self._read_run(here, out[done:])

    def _read_run(self, position: Position, out: Buffer) -> int:
        cell, number = self._locate(position)
        _, per_shard = self._leading[-1]
        count = min(len(out), per_shard - position[-1] % per_shard)
        shard = self._shards.get(cell) or self._open(cell)
        offsets = shard.table.offsets[number : number + count]
        if offsets[0] >= 0 and (np.diff(offsets) == self._frame_bytes).all():
            self._fill(shard, cell, int(offsets[0]), [out[:count]])
        else:
            for frame in range(count):
                self.read_frame((*position[:-1], position[-1] + frame), [out[frame]])
        return count

    def _locate(self, position: Position) -> tuple[Cell, int]:
        """The shard that holds a frame, and the frame's number in it."""
        x, y = position if len(position) == 2 else (0, *position)
        (size_x, per_x), (size_y, per_y) = self._leading
        if not (0 <= x < size_x and 0 <= y < size_y):
            raise IndexError(f"{self.path.name}{position}: the array has the shape {self.layout.shape}")
        return (x // per_x, y // per_y), x % per_x * per_y + y % per_y

    def _entries(self, shard: OpenShard, number: int) -> list[tuple[int, int]]:
        """Offset and length of each chunk of a frame."""
        num = len(self.layout.chunk_ranges)
        entries: list[tuple[int, int]] = shard.table.entries[number * num : (number + 1) * num].tolist()
        return entries

    def _open(self, cell: Cell) -> OpenShard:
        shard = OpenShard(self._file(cell), self.layout, self._tables.get(cell))
        (_, _), (size, per_shard) = self._leading
        place = cell[0] * -(-size // per_shard) + cell[1]
        # Once, not again where a shard was closed meanwhile: checking takes longer than reading a few frames.
        if not self._checked[place]:
            self._checks.check(self._file(cell), self._key(cell), shard.descriptor)
            self._checked[place] = 1
        with self._lock:
            self._tables[cell] = shard.table
            # Shards of a store have indices of one size.
            while len(self._tables) > 1 and len(self._tables) * shard.table.bytes > self._table_bytes:
                del self._tables[next(iter(self._tables))]
            self._shards[cell] = shard
            while len(self._shards) > self._max_open:
                # The oldest gets a second chance if it was read since (the clock algorithm). It is dropped, not closed:
                # another thread may be reading from it.
                oldest = next(iter(self._shards))
                candidate = self._shards.pop(oldest)
                if candidate.used:
                    candidate.used = False
                    self._shards[oldest] = candidate
        return shard

    def _key(self, cell: Cell) -> str:
        return self.layout.key((*cell, 0, 0, 0)[-len(self.layout.shape) :])

    def _file(self, cell: Cell) -> Path:
        return self.path / self._key(cell)

    def _fill(self, shard: OpenShard, cell: Cell, offset: int, buffers: Sequence[Buffer]) -> None:
        # Arrays are buffers, but their annotations say so from Python 3.12 on only.
        done = os.preadv(shard.descriptor, buffers, offset)  # type: ignore[arg-type]
        if done == sum([buffer.nbytes for buffer in buffers]):
            return
        # The system may read less than it was asked for, though it rarely does: buffer by buffer then.
        for buffer in buffers:
            view, done = buffer.reshape(-1).view(np.uint8), 0
            while done < len(view):
                count = os.preadv(shard.descriptor, [view[done:].data], offset + done)
                if count == 0:
                    raise DamagedFileError(f"{self._file(cell)}: the shard ends before its index says so")
                done += count
            offset += done

    def _fill_by_chunk(self, shard: OpenShard, cell: Cell, number: int, buffers: Sequence[Buffer]) -> None:
        flat = as_bytes(buffers)
        for held, (offset, length) in zip(
            self.layout.chunk_ranges, self._entries(shard, number), strict=True
        ):
            if not (parts := byte_range(flat, *held)):
                return
            if offset == MISSING:
                raise DamagedFileError(f"{self._file(cell)}: a chunk was never written")
            if self.layout.codec == "none":
                self._fill(shard, cell, offset, parts)
            else:
                self._decode(shard, cell, offset, length, parts)

    def _decode(self, shard: OpenShard, cell: Cell, offset: int, length: int, parts: list[Bytes]) -> None:
        if self._maps and shard.address:
            encoded = shard.memory[offset : offset + length]
        else:
            encoded = self._scratch_bytes("encoded", length)
            self._fill(shard, cell, offset, [encoded])
        whole = len(parts) == 1 and len(parts[0]) == self._chunk_bytes
        values = parts[0] if whole else self._scratch_bytes("chunk", self._chunk_bytes)
        try:
            decompress(encoded, values)
        except ValueError as error:
            raise DamagedFileError(f"{self._file(cell)}: a chunk cannot be decoded: {error}") from error
        if not whole:
            scatter(values, parts)

    def _scratch_bytes(self, name: str, length: int) -> Bytes:
        """Memory of this thread, used over and over: the page faults of new memory cost more than decoding."""
        held: Bytes | None = getattr(self._scratch, name, None)
        if held is None or len(held) < length:
            held = np.empty(length, np.uint8)
            setattr(self._scratch, name, held)
        return held[:length]
