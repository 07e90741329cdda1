"""Trajectory pool: whole trajectories held in memory, each read at once.

It serves cold disks and servers, where a request costs more than the bytes that it brings.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.store.frame_reader import FrameReader, Position, scatter
from pelagos.preprocessing.store.shard_layout import TypeName

_READERS = 4  # trajectories that are read at a time


@dataclass(eq=False)
class _Entry:
    """One trajectory of the pool; the thread that reads it from the store holds the lock."""

    lock: Lock = field(default_factory=Lock)
    values: NDArray[Any] | None = None


class TrajectoryPool(FrameReader):
    """Reads frames by reading their whole trajectory, and keeps the trajectories that were used last.

    A trajectory that several threads ask for at once is read by one of them.
    """

    def __init__(
        self, frames: FrameReader, shape: tuple[int, ...], size: int, dtype: TypeName = "float32"
    ) -> None:
        """An empty pool.

        Args:
            frames: reads them at (trajectory, time).
            shape: (T, C, H, W) of a trajectory.
            size: how many trajectories are kept.
            dtype: type of the values.
        """
        self._frames, self._shape, self._size, self._dtype = frames, shape, size, dtype
        self._held: OrderedDict[int, _Entry] = OrderedDict()
        self._lock = Lock()

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        trajectory, frame = position
        scatter(self._values(trajectory)[frame], buffers)

    def read_frames(self, position: Position, out: NDArray[Any]) -> None:
        """See FrameReader."""
        trajectory, frame = position
        out[:] = self._values(trajectory)[frame : frame + len(out)]

    def prepare(self, positions: Iterable[Position], *, warm: bool = False) -> "TrajectoryPool":
        """The pool itself, with the trajectories of these positions in it, read side by side."""
        wanted = list(dict.fromkeys(trajectory for trajectory, _ in positions))[: self._size]
        if any(trajectory not in self._held for trajectory in wanted):
            with ThreadPoolExecutor(min(len(wanted), _READERS)) as readers:
                list(readers.map(self._values, wanted))
        return self

    def _values(self, trajectory: int) -> NDArray[Any]:
        with self._lock:
            entry = self._held.setdefault(trajectory, _Entry())
            self._held.move_to_end(trajectory)
            # Dropped, not freed: another thread may be copying from the oldest.
            while len(self._held) > self._size:
                self._held.popitem(last=False)
        # Each entry has a lock of its own, so that threads read different trajectories side by side.
        with entry.lock:
            if entry.values is None:
                values = np.empty(self._shape, self._dtype)
                self._frames.read_frames((trajectory, 0), values)
                entry.values = values
            return entry.values
