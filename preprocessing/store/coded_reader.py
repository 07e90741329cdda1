"""Coded reader: frames kept in 16 bits, as float32 or, for a device that widens them itself, as they are."""

from collections.abc import Iterable, Sequence
from math import prod
from threading import local

import numpy as np

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.store.coding import Coding, Halves
from pelagos.preprocessing.store.frame_reader import Buffer, FrameReader, Position


class CodedReader(FrameReader):
    """Decodes what another reader reads into float32 buffers; float16 buffers get the bytes as they are stored.

    Attributes:
        raw: reads the stored bytes.
        coding: of the channels.
    """

    coding: Coding

    def __init__(self, raw: FrameReader, coding: Coding) -> None:
        self.raw, self.coding = raw, coding
        self.splits_trajectories = raw.splits_trajectories
        self._scratch = local()

    def read_frame(self, position: Position, buffers: Sequence[Buffer]) -> None:
        """See FrameReader; of buffers (channel, row, x)."""
        if buffers[0].dtype == np.float16:
            self.raw.read_frame(position, buffers)
            return
        coded = self._memory(buffers)
        self.raw.read_frame(position, coded)
        self._decode(coded, buffers)

    def read_frames(self, position: Position, out: Float32s) -> None:
        """See FrameReader."""
        coded = np.empty(out.shape, np.float16)
        self.raw.read_frames(position, coded)
        for frame, values in zip(coded, out, strict=True):
            self.coding.decode(frame, values)

    def read_rows(self, position: Position, rows: range, height: int, buffers: Sequence[Buffer]) -> None:
        """See FrameReader."""
        if buffers[0].dtype == np.float16:
            self.raw.read_rows(position, rows, height, buffers)
            return
        coded = self._memory(buffers)
        self.raw.read_rows(position, rows, height, coded)
        self._decode(coded, buffers)

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> "CodedReader":
        """See FrameReader."""
        return self.over(self.raw.prepare(positions, warm=warm))

    def announce(self, positions: Iterable[Position]) -> None:
        """See FrameReader."""
        self.raw.announce(positions)

    def over(self, raw: FrameReader) -> "CodedReader":
        """A reader of the same channels over another one of the bytes."""
        reader = CodedReader(raw, self.coding)
        reader._scratch = self._scratch
        return reader

    def _memory(self, buffers: Sequence[Buffer]) -> list[Halves]:
        """Memory of this thread, used over and over, in the shape of the buffers."""
        sizes = [buffer.size for buffer in buffers]
        held: Halves | None = getattr(self._scratch, "coded", None)
        if held is None or len(held) < sum(sizes):
            held = self._scratch.coded = np.empty(sum(sizes), np.float16)
        ends = np.cumsum(sizes).tolist()
        return [
            held[end - prod(buffer.shape) : end].reshape(buffer.shape)
            for end, buffer in zip(ends, buffers, strict=True)
        ]

    def _decode(self, coded: Sequence[Halves], buffers: Sequence[Buffer]) -> None:
        first = 0
        for part, buffer in zip(coded, buffers, strict=True):
            self.coding.decode(part, buffer, first)
            first += len(buffer)
