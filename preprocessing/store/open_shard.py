"""Open shard: a shard's file, open and mapped into memory."""

import ctypes
import mmap
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pelagos.preprocessing.array_types import Ints
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.shard_layout import (
    MISSING,
    Entries,
    ShardLayout,
    decode_index,
    frame_offsets,
    index_bytes,
)

_mmap, _munmap = (getattr(ctypes.CDLL(None), name) for name in ("mmap", "munmap"))
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_mmap.argtypes = (*_munmap.argtypes, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_mmap.restype = ctypes.c_void_p
_MAP_FAILED = ctypes.c_void_p(-1).value


class ChunkTable(NamedTuple):
    """Where a shard's chunks and frames lie.

    Attributes:
        entries: (chunk, 2) offset and length.
        offsets: (frame,) where each frame lies in one piece, -1 where it does not.
    """

    entries: Entries
    offsets: Ints

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return self.entries.nbytes + self.offsets.nbytes


class OpenShard:
    """A shard's file; it closes with the last reference to the object.

    Attributes:
        descriptor: the file's descriptor.
        table: the places of its chunks and frames.
        address: where the file is mapped into memory; 0 where the file system maps none.
        memory: the bytes there, for as long as the shard is held.
        used: whether it was read since it was last considered for closing.
    """

    def __init__(self, path: Path, layout: ShardLayout, table: ChunkTable | None) -> None:
        """Open and map a file; its index is read where no table of an earlier opening is given.

        Raises:
            DamagedFileError: it is missing or torn.
        """
        self.descriptor, self.address, self.used = -1, 0, False
        try:
            self.descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise DamagedFileError(f"{path}: the shard is missing; `pelagos verify` lists all") from error
        self.table = table or _read_table(path, self.descriptor, layout)
        starts, lengths = self.table.entries[self.table.entries[:, 0] != MISSING].T
        self._size = os.fstat(self.descriptor).st_size
        # Touching mapped memory beyond the end of the file would kill the process (SIGBUS).
        if (starts > self._size).any() or (lengths > self._size - starts).any():
            raise DamagedFileError(
                f"{path}: the shard ends before its index says so; `pelagos repair` mends it"
            )
        # By mmap(2) itself, since Python's mmap would keep a second descriptor open.
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


def _read_table(path: Path, descriptor: int, layout: ShardLayout) -> ChunkTable:
    length = index_bytes(layout)
    start = os.fstat(descriptor).st_size - length
    try:
        entries = decode_index(os.pread(descriptor, length, start) if start >= 0 else b"")
    except ValueError as error:
        raise DamagedFileError(f"{path}: {error}; `pelagos repair` mends it") from error
    return ChunkTable(entries, frame_offsets(entries, layout))
