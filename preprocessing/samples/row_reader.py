"""Row reader: frames of which a process has some rows, for samples that several processes share."""

from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray

from pelagos.preprocessing.store.frame_reader import FrameReader, Position


class RowReader(FrameReader):
    """Reads some rows of frames, as if they were all.

    It announces nothing: the system would fetch whole frames.
    """

    def __init__(self, reader: FrameReader, rows: range, height: int) -> None:
        """Read rows of frames that have so many in all."""
        self._reader, self._rows, self._height = reader, rows, height
        self.splits_trajectories = reader.splits_trajectories

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader; of buffers (channel, row, x)."""
        self._reader.read_rows(position, self._rows, self._height, buffers)

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> "RowReader":
        """See FrameReader."""
        return RowReader(self._reader.prepare(positions, warm=warm), self._rows, self._height)
