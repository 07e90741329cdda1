"""Sharded arrays: what zarr-python makes, filled by our writer."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.store.shard_layout import ShardLayout, read_metadata
from pelagos.preprocessing.store.shard_writer import write_shard

SHAPE = (5, 7, 4, 6, 8)
CODECS = ["none", "blosc-lz4"]
CHUNKS = [
    (4, 6),
    (2, 6),
    (1, 6),
    (1, 3),
    (1, 4),
    (1, 1),
]  # channels and rows; 4 rows reach beyond the 6 there are


def make_array(
    folder: Path, codec: str, shard: tuple[int, int] = (2, 7), chunk: tuple[int, int] = (4, 6)
) -> zarr.Array[Any]:
    blosc = BloscCodec(typesize=4, cname="lz4", clevel=5, shuffle="shuffle", blocksize=0)
    return zarr.create_array(
        folder,
        shape=SHAPE,
        shards=(*shard, 4, -(-6 // chunk[1]) * chunk[1], 8),
        chunks=(1, 1, *chunk, 8),
        dtype="float32",
        compressors=None if codec == "none" else [blosc],
        fill_value=np.nan,
    )


def write_array(folder: Path, values: Float32s) -> ShardLayout:
    layout = ShardLayout.from_metadata(read_metadata(folder))
    for i, j in np.ndindex(layout.shard_counts[:2]):
        rows, columns = (slice(k * n, (k + 1) * n) for k, n in zip((i, j), layout.shard[:2], strict=True))
        file = folder / layout.key((i, j, 0, 0, 0))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_shard(file, np.ascontiguousarray(values[rows, columns]), layout)
    return layout
