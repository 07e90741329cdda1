"""Reading shards: frames straight into the caller's buffers, by one system call each where they are not encoded."""

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from copy import copy
from functools import cached_property
from math import prod
from pathlib import Path
from threading import Lock, local

import google_crc32c
import numcodecs.blosc
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes, Float32s, Ints
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.frame_reader import FrameLocations, FrameReader, LocatedFrames, Position
from pelagos.preprocessing.store.scatter import Buffer, as_bytes, byte_range, scatter
from pelagos.preprocessing.store.shard_layout import MISSING, Cell, ShardLayout

_advise = getattr(os, "posix_fadvise", None)  # which macOS lacks
_Index = tuple[NDArray[np.uint64], Ints]
_mmap, _munmap = (getattr(ctypes.CDLL(None), name) for name in ("mmap", "munmap"))
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_mmap.argtypes = (*_munmap.argtypes, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_mmap.restype = ctypes.c_void_p
_MAP_FAILED = ctypes.c_void_p(-1).value


class _Shard:
    """An open shard; its file closes when nobody holds it any more.

    Attributes:
        descriptor: of the file.
        index: (chunk, 2) offset and length.
        offsets: (frame,) where each frame lies in one piece, -1 where it does not.
        address: where the file is mapped into memory; 0 where the file system maps none.
        memory: the bytes there, for as long as the shard is held.
        used: whether it was read since it was last considered for closing.
    """

    def __init__(self, path: Path, index: _Index | None, num_chunks: int, layout: ShardLayout) -> None:
        self.descriptor, self.address, self.used = -1, 0, False
        try:
            self.descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise DamagedFileError(f"{path}: the shard is missing; `pelagos verify` lists all") from error
        if index is None:
            entries = _read_index(path, self.descriptor, num_chunks)
            index = entries, _frame_offsets(entries, layout)
        self.index, self.offsets = index
        starts, lengths = self.index[self.index[:, 0] != MISSING].T
        self._size = os.fstat(self.descriptor).st_size
        # Whoever touches mapped memory beyond the end of the file is killed.
        if (starts > self._size).any() or (lengths > self._size - starts).any():
            raise DamagedFileError(
                f"{path}: the shard ends before its index says so; `pelagos repair` mends it"
            )
        # Python's own mapping would keep a second descriptor.
        address = _mmap(None, self._size, mmap.PROT_READ, mmap.MAP_SHARED, self.descriptor, 0)
        if address not in (None, _MAP_FAILED):
            self.address = address
            self.memory = np.frombuffer(
                memoryview((ctypes.c_ubyte * self._size).from_address(address)), np.uint8
            )

    def __del__(self) -> None:
        if self.address:
            _munmap(self.address, self._size)
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _frame_offsets(index: NDArray[np.uint64], layout: ShardLayout) -> Ints:
    entries = index.reshape(-1, len(layout.pieces), 2).astype(np.int64)
    whole = entries[:, 0, 0] >= 0
    whole &= layout.in_one_piece
    whole &= (entries[:, :, 1] == 4 * prod(layout.chunk)).all(axis=1)
    whole &= (entries[:, 1:, 0] == entries[:, :-1].sum(axis=-1)).all(axis=1)
    return np.where(whole, entries[:, 0, 0], -1)


def _read_index(path: Path, descriptor: int, num_chunks: int) -> NDArray[np.uint64]:
    length = 16 * num_chunks + 4
    start = os.fstat(descriptor).st_size - length
    content = os.pread(descriptor, length, start) if start >= 0 else b""
    if len(content) != length or google_crc32c.value(content[:-4]) != struct.unpack("<I", content[-4:])[0]:
        raise DamagedFileError(f"{path}: the shard's index is torn or damaged; `pelagos repair` mends it")
    return np.frombuffer(content[:-4], "<u8").reshape(-1, 2)


class ShardReader(FrameReader):
    """Frames of a sharded array, read by position; safe to share between threads.

    Indices are read once and kept; of the files the `max_open` used last stay open.
    """

    def __init__(self, path: Path, layout: ShardLayout, max_open: int = 256) -> None:
        self.path, self.layout = path, layout
        self._max_open = max_open
        self._shards: dict[Cell, _Shard] = {}
        self._indices: dict[Cell, _Index] = {}
        self._lock = Lock()
        self._scratch = local()
        self._chunk_bytes = 4 * prod(layout.chunk)
        self._frame_bytes = 4 * prod(layout.frame)
        self._maps = False
        self.splits_trajectories = layout.splits_trajectories
        # One axis or two; a loop over them would take a twentieth of a frame's time.
        self._leading = ((1, 1), *zip(layout.shape[:-3], layout.shard[:-3], strict=True))[-2:]

    @cached_property
    def mapped(self) -> "ShardReader":
        """The same reader for files that memory most likely holds: it maps them, which saves a copy.

        From a disk it reads several times slower, since a page that is not there is fetched when it is needed.
        A disk that fails then, or whoever shortens a file, ends the process (SIGBUS).
        """
        mapped = copy(self)
        mapped._maps = True
        return mapped

    def read_frame(self, position: Position, buffers: Sequence[Buffer]) -> None:
        """See FrameReader; one system call for a frame without codec."""
        cell, number = self._locate(position)
        shard = self._shards.get(cell) or self._open(cell)
        shard.used = True
        offset = shard.offsets.item(number)
        if offset < 0:
            self._fill_by_chunk(shard, cell, number, buffers)
        elif self._maps and shard.address:
            scatter(shard.memory[offset : offset + self._frame_bytes].view(np.float32), buffers)
        else:
            self._fill(shard, cell, offset, buffers)

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
        starts = [shard.offsets.item(number) for shard, number in zip(shards, numbers, strict=True)]
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

    def read_frames(self, position: Position, out: Float32s) -> None:
        """See FrameReader; one system call for the frames of a shard without codec."""
        done = 0
        while done < len(out):
            here = (*position[:-1], position[-1] + done)
            done += self._read_run(here, out[done:])

    def _read_run(self, position: Position, out: Float32s) -> int:
        cell, number = self._locate(position)
        _, per_shard = self._leading[-1]
        count = min(len(out), per_shard - position[-1] % per_shard)
        shard = self._shards.get(cell) or self._open(cell)
        offsets = shard.offsets[number : number + count]
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

    def _entries(self, shard: _Shard, number: int) -> list[tuple[int, int]]:
        """Offset and length of each chunk of a frame."""
        num = len(self.layout.pieces)
        entries: list[tuple[int, int]] = shard.index[number * num : (number + 1) * num].tolist()
        return entries

    def _open(self, cell: Cell) -> _Shard:
        shard = _Shard(self._file(cell), self._indices.get(cell), prod(self.layout.chunks), self.layout)
        with self._lock:
            self._indices[cell] = shard.index, shard.offsets
            self._shards[cell] = shard
            while len(self._shards) > self._max_open:
                # The oldest gets a second chance if it was read (the clock algorithm). Dropped, not
                # closed: another thread may be reading from it.
                oldest = next(iter(self._shards))
                candidate = self._shards.pop(oldest)
                if candidate.used:
                    candidate.used = False
                    self._shards[oldest] = candidate
        return shard

    def _file(self, cell: Cell) -> Path:
        return self.path / self.layout.key((*cell, 0, 0, 0)[-len(self.layout.shape) :])

    def _fill(self, shard: _Shard, cell: Cell, offset: int, buffers: Sequence[Buffer]) -> None:
        # Arrays are buffers, but from Python 3.12 on only do their annotations say so.
        done = os.preadv(shard.descriptor, buffers, offset)  # type: ignore[arg-type]
        if done == sum([buffer.nbytes for buffer in buffers]):
            return
        # Legal for the system, if rare: piece by piece then.
        for buffer in buffers:
            view, done = buffer.reshape(-1).view(np.uint8), 0
            while done < len(view):
                count = os.preadv(shard.descriptor, [view[done:].data], offset + done)
                if count == 0:
                    raise DamagedFileError(f"{self._file(cell)}: the shard ends before its index says so")
                done += count
            offset += done

    def _fill_by_chunk(self, shard: _Shard, cell: Cell, number: int, buffers: Sequence[Buffer]) -> None:
        flat = as_bytes(buffers)
        for piece, (offset, length) in zip(self.layout.pieces, self._entries(shard, number), strict=True):
            if not (parts := byte_range(flat, *piece)):
                return
            if offset == MISSING:
                raise DamagedFileError(f"{self._file(cell)}: a chunk was never written")
            if self.layout.codec == "none":
                self._fill(shard, cell, offset, parts)
            else:
                self._decode(shard, cell, offset, length, parts)

    def _decode(self, shard: _Shard, cell: Cell, offset: int, length: int, parts: list[Bytes]) -> None:
        if self._maps and shard.address:
            encoded = shard.memory[offset : offset + length]
        else:
            encoded = self._scratch_bytes("encoded", length)
            self._fill(shard, cell, offset, [encoded])
        whole = len(parts) == 1 and len(parts[0]) == self._chunk_bytes
        values = parts[0] if whole else self._scratch_bytes("chunk", self._chunk_bytes)
        try:
            numcodecs.blosc.decompress(encoded, values)
        except (RuntimeError, ValueError) as error:
            raise DamagedFileError(f"{self._file(cell)}: a chunk cannot be decoded: {error}") from error
        if not whole:
            scatter(values, parts)

    def _scratch_bytes(self, name: str, length: int) -> Bytes:
        """Memory of this thread that is used over and over: fresh pages cost more than decoding."""
        held: Bytes | None = getattr(self._scratch, name, None)
        if held is None or len(held) < length:
            held = np.empty(length, np.uint8)
            setattr(self._scratch, name, held)
        return held[:length]
