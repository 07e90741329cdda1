"""Chosen statistics: those of some frames of a store, such as the few trajectories that a network learns from.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from pelagos.preprocessing.array_types import Flags, Float32s
from pelagos.preprocessing.channel_statistics.measures import (
    Measures,
    measure_block,
    merge_measures,
    statistics_of,
)
from pelagos.preprocessing.store.sample_store import SampleStore, Statistics


def chosen_statistics(store: SampleStore, frames_NT: Flags) -> Statistics:
    """The statistics of some frames of a store, at least one, which are read for it, as a build counts them.

    Raises:
        DamagedFileError: a shard is missing or damaged.
    """
    found = statistics_of(merge_measures(_measures(store, frames_NT)))
    return Statistics(**{field.name: found[field.name] for field in fields(Statistics)})


def _measures(store: SampleStore, frames_NT: Flags) -> Iterator[Measures]:
    """Those of each frame, with the static fields of its trajectory beside the first."""
    shape, counts = store.grid.shape, np.ones((1, 1), bool)
    for trajectory in np.flatnonzero(frames_NT.any(axis=1)).tolist():
        static_1CHW, before_1CHW = (
            _static(store, trajectory),
            np.empty((0, len(store.variables), *shape), "f4"),
        )
        # Frame by frame, whatever the store's size.
        for time in np.flatnonzero(frames_NT[trajectory]).tolist():
            fields_1CHW = np.empty((1, len(store.variables), *shape), np.float32)
            store.frames.read_frames((trajectory, time), fields_1CHW)
            follows = time > 0 and bool(frames_NT[trajectory, time - 1])
            before_1CHW = before_1CHW[: int(follows)]
            yield measure_block(
                fields_1CHW[:, None],
                static_1CHW,
                counts,
                counts,
                before_1CHW,
                np.ones(len(before_1CHW), bool),
            )
            static_1CHW, before_1CHW = static_1CHW[:0], fields_1CHW


def _static(store: SampleStore, trajectory: int) -> Float32s:
    """(1, C, H, W) the static fields of a trajectory; (0, 0, H, W) where there are none."""
    num = len(store.static_variables)
    static_1CHW = np.empty((int(num > 0), num, *store.grid.shape), np.float32)
    if num:
        store.static_frames.read_frame((trajectory,), [static_1CHW])
    return static_1CHW
