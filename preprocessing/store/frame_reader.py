"""Frame reader: what every way of reading frames promises, and the readers that need no file.

A frame is the values at one position of an array's leading axes: of a store's state at (trajectory, time), of its
static fields at (trajectory,).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Bytes, Ints

if TYPE_CHECKING:  # of stores in 16 bits alone
    from pelagos.preprocessing.store.coding import Coding

Position = tuple[int, ...]
TABLE_BYTES = 64 << 20
"""What the indices that a reader keeps may take: a store of a million shards has gigabytes of them."""


class FrameLocations(NamedTuple):
    """Where the M frames of each of B samples lie.

    Attributes:
        files: (B, M) file descriptors, or -1 for frames in memory.
        starts: (B, M) offset in the file [bytes], or address in memory.
    """

    files: Ints
    starts: Ints


class LocatedFrames(NamedTuple):
    """Frames that compiled code can read by itself.

    Attributes:
        locations: where they lie, valid only while `holder` is referenced.
        holder: keeps their files open and mapped.
    """

    locations: FrameLocations
    holder: object


class FrameReader(ABC):
    """Reads frames by position; safe to share between threads.

    Attributes:
        splits_trajectories: whether a trajectory may span several shards, so that reading it whole takes more than
            one request.
        coding: of frames in 16 bits, which float16 buffers get as they are stored; None where there are none.
    """

    splits_trajectories: bool = False
    coding: "Coding | None" = None

    @abstractmethod
    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """Fill C-contiguous buffers, one after the other, from the start of a frame.

        Together they may be shorter than the frame, never longer.

        Raises:
            DamagedFileError: the frame cannot be read.
        """

    def read_frames(self, position: Position, out: NDArray[Any]) -> None:
        """Fill (T, C, H, W) with consecutive frames along the last of the leading axes.

        Raises:
            DamagedFileError: one of them cannot be read.
        """
        # Readers that can do better than frame by frame do so in their own `read_frames`.
        for number, frame in enumerate(out):
            self.read_frame((*position[:-1], position[-1] + number), [frame])

    def read_rows(
        self, position: Position, rows: range, height: int, buffers: Sequence[NDArray[Any]]
    ) -> None:
        """Fill (C, row, x) buffers, one after the other, with some rows of a frame's channels, of its first on.

        Args:
            position: of the frame.
            rows: those that are read.
            height: how many a channel has.
            buffers: to fill.

        Raises:
            DamagedFileError: the frame cannot be read.
        """
        # Readers that can leave out the other rows do so in their own `read_rows`.
        whole = [np.empty((len(part), height, part.shape[-1]), part.dtype) for part in buffers]
        self.read_frame(position, whole)
        for part, channels in zip(buffers, whole, strict=True):
            part[:] = channels[:, rows.start : rows.stop]

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> "FrameReader":
        """The reader to read these frames with next, once it has fetched or mapped what pays to have at hand.

        Args:
            positions: of the frames; a reader that has nothing to prepare does not iterate over them.
            warm: whether the system most likely holds their files in memory.

        Raises:
            DamagedFileError: one of them cannot be fetched.
        """
        return self

    def announce(self, positions: Iterable[Position]) -> None:  # noqa: B027 (most readers have no files to announce)
        """Hint to the system that these frames will be read soon, where there is a system to be told.

        Raises:
            DamagedFileError: a shard is missing or torn.
        """

    def locate(self, trajectories: Ints, times: Ints) -> LocatedFrames | None:
        """Where frames lie, if each of them lies in one piece, as it is in memory; else None.

        Args:
            trajectories: (B,) position along the first leading axis.
            times: (B, M) positions along the second.

        Raises:
            DamagedFileError: a shard is missing or torn.
        """
        return None


class SharedFrame(FrameReader):
    """The one frame that all trajectories share."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader, self.coding = reader, reader.coding

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """Fill buffers with it, whatever the trajectory; errors as of any reader."""
        self._reader.read_frame((0,), buffers)

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> FrameReader:
        """See FrameReader."""
        return SharedFrame(self._reader.prepare([(0,)], warm=warm))


class MemoryReader(FrameReader):
    """Reads frames of an array in memory."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        scatter(self._values[position], buffers)

    def read_frames(self, position: Position, out: NDArray[Any]) -> None:
        """See FrameReader."""
        out[:] = self._values[position[:-1]][position[-1] : position[-1] + len(out)]


class EmptyReader(FrameReader):
    """Reads frames that have no channels."""

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """Read nothing."""


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
