"""Partition: how a store is cut into chunks, shards and the parts that write them.

Shapes: C channels, H rows, W columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import overload

import numpy as np

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.shard_layout import CodecName, ShardLayout, TypeName

# Bytes. Larger frames are cut along their channels; larger channels along rows only, so that the chunks of an
# uncompressed frame in C order are its bytes and one system call still reads it (0.47 ms for 3 x 721 x 1440).
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Part:
    """What one task writes: a shard of the state and, at a trajectory's start, the shard of its static fields.

    Attributes:
        cell: position of the shard along trajectories and times.
        trajectories: [first, stop) of the shard.
        times: [first, stop) of the shard.
    """

    cell: tuple[int, int]
    trajectories: tuple[int, int]
    times: tuple[int, int]

    @property
    def name(self) -> str:
        """The name under which the part is recorded."""
        return f"{self.cell[0]}.{self.cell[1]}"


def leading_shard(
    shape: tuple[int, ...], static_bytes: int, shard_bytes: int, item_bytes: int = 4
) -> tuple[int, int]:
    """How many trajectories and times a shard holds: whole trajectories, or a block of times of a long one."""
    num, length = shape[:2]
    frame_bytes = item_bytes * prod(shape[2:])
    if frame_bytes * length <= 2 * shard_bytes:
        # The task that writes the shard holds the static fields of its trajectories as well.
        return _clamp(shard_bytes / (frame_bytes * length + static_bytes), num), length
    return 1, _clamp(shard_bytes / frame_bytes, length)


def chunk_of(frame: tuple[int, ...], item_bytes: int = 4) -> tuple[int, ...]:
    """The chunk shape for frames (C, H, W): some whole channels, or some rows of one large channel."""
    channels, height, width = frame
    row = item_bytes * width
    fitting = [c for c in range(1, channels + 1) if channels % c == 0 and c * height * row <= _CHUNK]
    if fitting or not channels:
        return (max(fitting, default=0), height, width)
    # Of the numbers of rows that make 0.25 to 1 MiB, the one that pads the last chunk least. Padding a row or
    # so beats cutting columns, which would scatter a channel (0.55 ms for 3 x 719 x 1440, uncut 0.47).
    least, most = -(-_CHUNK // (4 * row)), max(1, _CHUNK // row)
    return 1, min(range(most, least - 1, -1), key=lambda rows: -height % rows), width


def frame_layout(
    shape: tuple[int, ...],
    leading: tuple[int, ...],
    chunk: tuple[int, ...],
    codec: CodecName,
    dtype: TypeName = "float32",
) -> ShardLayout:
    """The layout of shards of whole frames, padded where chunks reach beyond the last row."""
    channels, height, width = shape[-3:]
    frame = (channels, -(-height // chunk[1]) * chunk[1], width)
    return ShardLayout(shape, (*leading, *frame), (*(1 for _ in leading), *chunk), codec, dtype)


def _clamp(value: float, upper: int) -> int:
    return max(1, min(round(value), upper))


class Parts(Sequence[Part]):
    """One part for each shard, in C order, made as they are asked for: a list of 1.5 million takes a gigabyte."""

    def __init__(self, state: ShardLayout) -> None:
        """The parts of a store whose `state` has this layout."""
        self._state, self._counts = state, state.shard_counts[:2]

    def __len__(self) -> int:
        return prod(self._counts)

    @overload
    def __getitem__(self, number: int) -> Part: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Part]: ...
    def __getitem__(self, number: int | slice) -> Part | Sequence[Part]:
        positions = range(len(self))[number]
        if isinstance(positions, range):
            return [self[position] for position in positions]
        return self.at(*divmod(positions, self._counts[1]))

    def at(self, i: int, j: int) -> Part:
        """The part of the shard at this position along trajectories and times."""
        (num, length), (rows, columns) = self._state.shape[:2], self._state.shard[:2]
        return Part(
            cell=(i, j),
            trajectories=(i * rows, min((i + 1) * rows, num)),
            times=(j * columns, min((j + 1) * columns, length)),
        )


def check_partition(parts: Sequence[Part], state: ShardLayout) -> None:
    """Raise DataError unless each shard is exactly one part."""
    # Two tasks that write one shard lose data without an error: 16 of 32 samples in a trial with dask's to_zarr
    # (dask issue 12583).
    right, counts = Parts(state), state.shard_counts[:2]
    met = np.zeros(counts, np.int64)
    for part in parts:
        if not all(0 <= position < count for position, count in zip(part.cell, counts, strict=True)):
            raise DataError(f"plan: part {part.name} is outside the {counts} shards of the store")
        if part != (expected := right.at(*part.cell)):
            raise DataError(
                f"plan: part {part.name} covers trajectories {part.trajectories} and times {part.times}; "
                f"its shard is trajectories {expected.trajectories} and times {expected.times}"
            )
        met[part.cell] += 1
    for wrong, fault in ((met > 1, "more than one part"), (met == 0, "no part")):
        if wrong.any():
            raise DataError(f"plan: shard {tuple(np.argwhere(wrong)[0].tolist())} belongs to {fault}")
