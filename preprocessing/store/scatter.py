"""Buffers: arrays that lie one after the other in thought, filled as if they were one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.durable import Bytes

Buffer = NDArray[Any]


def as_bytes(buffers: Sequence[Buffer]) -> list[Bytes]:
    """C-contiguous buffers as the bytes that they hold."""
    return [buffer.reshape(-1).view(np.uint8) for buffer in buffers]


def windows(buffers: Sequence[Bytes], start: int, stop: int) -> list[Bytes]:
    """The parts of buffers in which the bytes from `start` to `stop` of all of them lie; fewer at their end."""
    found, first = [], 0
    for buffer in buffers:
        part = buffer[max(0, start - first) : max(0, stop - first)]
        if len(part):
            found.append(part)
        first += len(buffer)
    return found


def spread(values: NDArray[Any], buffers: Sequence[Buffer]) -> None:
    """Fill buffers one after the other from the start of some values of the same type."""
    values, start = values.reshape(-1), 0
    for buffer in buffers:
        buffer.reshape(-1)[:] = values[start : start + buffer.size]
        start += buffer.size
