"""Scatter: copy contiguous values into several buffers, as if these were one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes

Buffer = NDArray[Any]


def as_bytes(buffers: Sequence[Buffer]) -> list[Bytes]:
    """C-contiguous buffers as the bytes that they hold."""
    return [buffer.reshape(-1).view(np.uint8) for buffer in buffers]


def byte_range(buffers: Sequence[Bytes], start: int, stop: int) -> list[Bytes]:
    """Views of the bytes from `start` to `stop` of the buffers put end to end; fewer where the buffers end.

    >>> first, second = np.arange(3, dtype=np.uint8), np.arange(10, 13, dtype=np.uint8)
    >>> [view.tolist() for view in byte_range([first, second], 2, 5)]
    [[2], [10, 11]]
    """
    views, first = [], 0
    for buffer in buffers:
        view = buffer[max(0, start - first) : max(0, stop - first)]
        if len(view):
            views.append(view)
        first += len(buffer)
    return views


def scatter(values: NDArray[Any], buffers: Sequence[Buffer]) -> None:
    """Fill buffers one after the other from the start of values of the same type.

    >>> first, second = np.zeros(2), np.zeros((1, 2))
    >>> scatter(np.arange(5.0), [first, second])
    >>> first, second
    (array([0., 1.]), array([[2., 3.]]))
    """
    values, start = values.reshape(-1), 0
    for buffer in buffers:
        buffer.reshape(-1)[:] = values[start : start + buffer.size]
        start += buffer.size
