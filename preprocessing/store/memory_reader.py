"""Memory reader: frames of an array in memory."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.store.frame_reader import FrameReader, Position
from pelagos.preprocessing.store.scatter import scatter


class MemoryReader(FrameReader):
    """Reads frames of an array in memory."""

    def __init__(self, values: Float32s) -> None:
        self._values = values

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        scatter(self._values[position], buffers)

    def read_frames(self, position: Position, out: Float32s) -> None:
        """See FrameReader."""
        out[:] = self._values[position[:-1]][position[-1] : position[-1] + len(out)]


class EmptyReader(FrameReader):
    """Reads frames that have no channels."""

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """Read nothing."""
