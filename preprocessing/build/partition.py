"""Partition: how a store is cut into chunks, shards and the parts that write them.

Shapes: C channels, H rows, W columns.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.store.shard_layout import CodecName, ShardLayout

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


def leading_shard(shape: tuple[int, ...], static_bytes: int, shard_bytes: int) -> tuple[int, int]:
    """How many trajectories and times a shard holds: whole trajectories, or a block of times of a long one."""
    num, length = shape[:2]
    frame_bytes = 4 * prod(shape[2:])
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
    shape: tuple[int, ...], leading: tuple[int, ...], chunk: tuple[int, ...], codec: CodecName
) -> ShardLayout:
    """The layout of shards of whole frames, padded where chunks reach beyond the last row."""
    channels, height, width = shape[-3:]
    frame = (channels, -(-height // chunk[1]) * chunk[1], width)
    return ShardLayout(shape, (*leading, *frame), (*(1 for _ in leading), *chunk), codec)


def _clamp(value: float, upper: int) -> int:
    return max(1, min(round(value), upper))


def partition(state: ShardLayout) -> tuple[Part, ...]:
    """One part for each shard, in C order."""
    (num, length), (rows, columns) = state.shape[:2], state.shard[:2]
    return tuple(
        Part(
            cell=(i, j),
            trajectories=(i * rows, min((i + 1) * rows, num)),
            times=(j * columns, min((j + 1) * columns, length)),
        )
        for i, j in product(range(state.shard_counts[0]), range(state.shard_counts[1]))
    )


def check_partition(parts: Sequence[Part], state: ShardLayout) -> None:
    """Raise DataError unless each shard is exactly one part."""
    # Two tasks that write one shard lose data without an error: 16 of 32 samples in a trial with dask's to_zarr
    # (dask issue 12583).
    expected = {part.cell: part for part in partition(state)}
    for part in parts:
        if part.cell not in expected:
            raise DataError(
                f"plan: part {part.name} is outside the {state.shard_counts[:2]} shards of the store"
            )
        if part != expected[part.cell]:
            right = expected[part.cell]
            raise DataError(
                f"plan: part {part.name} covers trajectories {part.trajectories} and times {part.times}; "
                f"its shard is trajectories {right.trajectories} and times {right.times}"
            )
    if doubled := [cell for cell, count in Counter(part.cell for part in parts).items() if count > 1]:
        raise DataError(f"plan: shard {doubled[0]} belongs to more than one part")
    if missing := sorted(set(expected) - {part.cell for part in parts}):
        raise DataError(f"plan: shard {missing[0]} belongs to no part")
