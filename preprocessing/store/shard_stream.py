"""Shard stream: a shard of a Zarr v3 array that is written chunk by chunk, as the chunks come.

`shard_writer` has all of a shard in memory; a forecast has one frame at a time. The chunks of a shard may lie in any
order, since its index says where each of them is (`sharding_indexed` codec, Zarr v3, ZEP 2).
"""

import hashlib
from contextlib import ExitStack
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes
from pelagos.preprocessing.files.durable import replacing, write_all
from pelagos.preprocessing.store.shard_layout import MISSING, encode_index


class ShardStream:
    """A shard in the making: a context at whose end, unless by an error, the file has its name and its index.

    Args:
        path: the file; its folder exists.
        counts: how many chunks a whole shard has along each axis; those never written read as missing.
    """

    def __init__(self, path: Path, counts: tuple[int, ...]) -> None:
        self._path, self._counts = path, counts
        self._index = np.full((prod(counts), 2), MISSING, np.uint64)
        self._position, self._digest, self._open = 0, hashlib.sha256(), ExitStack()

    def __enter__(self) -> Self:
        self._descriptor = self._open.enter_context(replacing(self._path))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._append(encode_index(self._index))
        finally:
            self._open.__exit__(kind, error, trace)

    @property
    def sha256(self) -> str:
        """The digest of the file, once it is complete."""
        return self._digest.hexdigest()

    def write(self, first: tuple[int, ...], chunks: NDArray[Any]) -> None:
        """Append chunks.

        Args:
            first: position of the first of them among the shard's chunks.
            chunks: (..., chunk) values: the leading axes are those of the shard, along which they follow on `first`.
        """
        assert chunks.flags.c_contiguous
        leading = chunks.shape[: len(self._counts)]
        places = [slice(start, start + length) for start, length in zip(first, leading, strict=True)]
        length = chunks.nbytes // prod(leading)
        offsets = self._position + length * np.arange(prod(leading), dtype=np.uint64)
        index = self._index.reshape(*self._counts, 2)
        index[tuple(places)] = np.stack([offsets, np.full_like(offsets, length)], axis=-1).reshape(
            *leading, 2
        )
        self._append(chunks.reshape(-1).view(np.uint8))

    def _append(self, content: Bytes) -> None:
        self._digest.update(content.data)
        write_all(self._descriptor, content, position=self._position)
        self._position += len(content)
