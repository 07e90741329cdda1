"""Stores with a missing value, in memory."""

from dataclasses import replace

import numpy as np

from pelagos.preprocessing.store.frame_reader import MemoryReader
from pelagos.preprocessing.store.store import Store


def with_hole(store: Store, trajectory: int, frame: int) -> Store:
    """The store with one value missing from the first field of a frame."""
    frames = np.stack([store.read(number, 0, store.num_times) for number in range(store.num_trajectories)])
    frames[trajectory, frame, 0, 3, 3] = np.nan
    return replace(store, num_missing=1, frames=MemoryReader(frames))


def with_static_hole(store: Store, trajectory: int) -> Store:
    """The store with one value missing from the first static field of a trajectory."""
    fields = np.stack([store.static(number) for number in range(store.num_trajectories)])
    fields[trajectory, 0, 3, 3] = np.nan
    return replace(store, num_missing=1, static_frames=MemoryReader(fields))
