"""Frame reader: what every way of reading frames promises, whether from files, a server or memory.

A frame is the values at one position of an array's leading axes: of a store's state at (trajectory, time), of its
static fields at (trajectory,).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Float32s, Ints

Position = tuple[int, ...]


class FrameLocations(NamedTuple):
    """Where the frames of B samples lie: of each the initial frame, then one for each of its K steps.

    Attributes:
        files: (B, K + 1) file descriptors, or -1 for frames in memory.
        starts: (B, K + 1) offset in the file [bytes], or address in memory.
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
    """

    splits_trajectories: bool = False

    @abstractmethod
    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """Fill C-contiguous buffers, one after the other, from the start of a frame.

        Together they may be shorter than the frame, never longer.

        Raises:
            DamagedFileError: the frame cannot be read.
        """

    def read_frames(self, position: Position, out: Float32s) -> None:
        """Fill (T, C, H, W) with consecutive frames along the last of the leading axes.

        Raises:
            DamagedFileError: one of them cannot be read.
        """
        for number, frame in enumerate(out):
            self.read_frame((*position[:-1], position[-1] + number), [frame])

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
            times: (B, K + 1) positions along the second.

        Raises:
            DamagedFileError: a shard is missing or torn.
        """
        return None


class SharedFrame(FrameReader):
    """The one frame that all trajectories share."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """Fill buffers with it, whatever the trajectory; errors as of any reader."""
        self._reader.read_frame((0,), buffers)

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> FrameReader:
        """See FrameReader."""
        return SharedFrame(self._reader.prepare([(0,)], warm=warm))
