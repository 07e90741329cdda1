"""Shard index: where the chunks of a shard lie, as the last bytes of its file say."""

import struct
from math import prod

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes, Ints
from pelagos.preprocessing.store.shard_layout import ShardLayout

Entries = NDArray[np.uint64]
"""(chunk, 2) offset and length [bytes] of the chunks of a shard, in C order; MISSING for those never written."""


def index_bytes(layout: ShardLayout) -> int:
    """The size of an index."""
    return 16 * prod(layout.chunk_counts) + 4


def encode_index(entries: Entries) -> Bytes:
    """The bytes of an index: its entries and their CRC-32C.

    >>> decode_index(encode_index(np.array([[0, 5], [5, 7]], np.uint64)).tobytes()).tolist()
    [[0, 5], [5, 7]]
    """
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
    contiguous &= (chunks[:, :, 1] == 4 * prod(layout.chunk)).all(axis=1)
    contiguous &= (chunks[:, 1:, 0] == chunks[:, :-1].sum(axis=-1)).all(axis=1)
    return np.where(contiguous, chunks[:, 0, 0], -1)
