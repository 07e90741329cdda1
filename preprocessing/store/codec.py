"""Codec: Blosc with LZ4, the one codec of chunks beside none."""

import numcodecs.blosc
import numpy as np

from pelagos.preprocessing.array_types import Bytes, Float32s

# With threads, Blosc lays its blocks out in the order in which they were finished: the bytes of stores would vary.
# Those who read have threads of their own.
numcodecs.blosc.use_threads = False


def compress(chunk: Float32s) -> Bytes:
    """The encoded bytes of a chunk."""
    return np.frombuffer(numcodecs.blosc.compress(chunk, b"lz4", 5, numcodecs.blosc.SHUFFLE), np.uint8)


def decompress(encoded: Bytes, out: Bytes) -> None:
    """Decode a chunk into memory of its size.

    Raises:
        ValueError: the bytes are no chunk of that size.
    """
    try:
        numcodecs.blosc.decompress(encoded, out)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
