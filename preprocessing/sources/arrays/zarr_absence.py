"""Chunks of Zarr arrays that are not there, for which Zarr gives the array's fill value."""

import os
from collections.abc import Collection, Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.files.location import ByteRange, Url, fetch_existing
from pelagos.preprocessing.sources.absence import AbsentPolicy, absent_policy, tell_absent
from pelagos.preprocessing.sources.arrays.array_reader import Index

_ABSENT = 2**64 - 1
"""Offset and length of a chunk that a shard's index says is not there (Zarr, sharding codec 1.0)."""
_METADATA = (".zarray", ".zattrs", ".zgroup", "zarr.json", ".zmetadata")


def check_written(
    path: Path | Url, key: str, array: Any, dtype: np.dtype[Any], marks: Collection[float] = ()
) -> AbsentPolicy:
    """Refuse an array of which chunks are absent, as its source's configuration says; reads no value.

    Absent chunks of an array whose fill value marks missing values are missing. On a server nothing can be listed, so
    that absent chunks are found when they are read.

    Args:
        path: of the group.
        key: of the array.
        array: the array.
        dtype: of the values as they are read.
        marks: stored values that mark missing ones.

    Returns:
        How absent chunks are to be read; "fill" where there are none.

    Raises:
        DamagedFileError: chunks are absent.
        DataError: absent values were to be missing, which they cannot be.
    """
    fill = array.fill_value
    marks_missing = fill is not None and (fill != fill or fill in marks)
    if isinstance(path, Url):
        return "fill" if marks_missing else absent_policy()
    first, count = None, 0
    for name in _absent(path / key, array):
        first, count = first or name, count + 1
    if first is None:
        return "fill"
    text = f"{count} chunks are absent, the first {first}: they were never written"
    if marks_missing:
        assume(
            "chunks_absent",
            f"{path}: {key}",
            f"{text}, or hold nothing but missing values, and are read as missing",
        )
        return "fill"
    # zarr-python leaves out chunks that hold nothing else, too; which of the two it was cannot be seen.
    text = f"{text}, or hold nothing but the fill value {fill}"
    # What a shard leaves out is not looked up again when values are read.
    return tell_absent(f"{path}: {key}", text, dtype if array.shards is None else None)


def _absent(folder: Path, array: Any) -> Iterator[str]:
    """Names of the chunks that are absent, as files or within a shard."""
    held = set(_files(folder))
    shape = array.shards or array.chunks
    cells = [range(-(-length // size)) for length, size in zip(array.shape, shape, strict=True)]
    if array.shards is None and prod(map(len, cells)) == len(held):
        return
    for cell in product(*cells):
        name = array.metadata.encode_chunk_key(cell)
        if name not in held:
            yield name
        elif array.shards is not None:
            yield from (
                f"{name}, chunk {chunk} of the shard" for chunk in _absent_inside(folder / name, array, cell)
            )


def _files(folder: Path, above: str = "") -> Iterator[str]:
    """Names of the files below a folder, metadata excepted; not by rglob, which takes five times as long."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path), f"{above}{entry.name}/")
            elif entry.name not in _METADATA:
                yield above + entry.name


def _absent_inside(file: Path, array: Any, cell: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Positions of the chunks that a shard leaves out, of those that lie within the array."""
    inner = tuple(shard // chunk for shard, chunk in zip(array.shards, array.chunks, strict=True))
    codec = array.metadata.codecs[0]
    size, names = 16 * prod(inner), [type(one).__name__ for one in codec.index_codecs]
    if names[:1] != ["BytesCodec"] or getattr(codec.index_codecs[0].endian, "value", "little") != "little":
        return
    size_with_sum = size + 4 * (names[1:] == ["Crc32cCodec"])
    with file.open("rb") as opened:
        at_end = getattr(codec.index_location, "value", codec.index_location) == "end"
        opened.seek(file.stat().st_size - size_with_sum if at_end else 0)
        index = np.frombuffer(opened.read(size), "<u8").reshape(*inner, 2)
    for position in np.argwhere(index[..., 0] == _ABSENT).tolist():
        first = [
            (outer * count + one) * chunk
            for outer, count, one, chunk in zip(cell, inner, position, array.chunks, strict=True)
        ]
        if all(start < length for start, length in zip(first, array.shape, strict=True)):
            yield tuple(position)


def mark_absent(folder: Path | Url, array: Any, index: Index, values: NDArray[Any]) -> NDArray[Any]:
    """The values of a block with NaN in the place of those whose chunks are absent."""
    sizes = array.shards or array.chunks
    positions = [
        np.atleast_1d(np.arange(length)[one]) for length, one in zip(array.shape, index, strict=True)
    ]
    absent = np.zeros([len(one) for one in positions], bool)
    cells = [np.unique(one // size) for one, size in zip(positions, sizes, strict=True)]
    for cell in product(*(one.tolist() for one in cells)):
        if _is_absent(folder, array.metadata.encode_chunk_key(cell)):
            inside = (one // size == number for one, size, number in zip(positions, sizes, cell, strict=True))
            absent[np.ix_(*inside)] = True
    kept = tuple(0 if isinstance(one, int) else slice(None) for one in index)
    return np.where(absent[kept], np.array(np.nan, values.dtype), values)


def _is_absent(folder: Path | Url, name: str) -> bool:
    if isinstance(folder, Url):
        return fetch_existing([ByteRange(folder / name, 0, 1)])[0] is None
    return not (folder / name).is_file()
