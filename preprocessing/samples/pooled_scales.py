"""Pooled scales: normalisers of what no store has statistics of, several stores together or some frames of one."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.channel_statistics.moments import Moments, merge_moments, moments_of
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import Variable, keys


def frames_normalizer(store: SampleStore, frames_NT: Flags) -> Normalizer:
    """The normaliser of some frames of a store, which are read for it, and of their trajectories' static fields.

    Raises:
        DamagedFileError: a shard is missing or damaged.
    """
    totals = _frame_moments(store, frames_NT)
    return Normalizer(
        keys=keys((*store.variables, *store.static_variables)),
        mean=np.concatenate([total.mean for total in totals]),
        std=np.concatenate([np.where(t.constant(t.magnitude), 1.0, np.sqrt(t.variance)) for t in totals]),
    )


def _frame_moments(store: SampleStore, frames_NT: Flags) -> tuple[Moments, Moments]:
    """Those of the state in some frames, and of their trajectories' static fields."""
    state, static = [], []
    shape = store.grid.shape
    for trajectory in np.flatnonzero(frames_NT.any(axis=1)).tolist():
        fields_1CHW = np.empty((1, len(store.variables), *shape), np.float32)
        # Frame by frame, whatever the store's size: the moments are merged, as those of a build are.
        for time in np.flatnonzero(frames_NT[trajectory]).tolist():
            store.frames.read_frames((trajectory, time), fields_1CHW)
            state.append(moments_of(fields_1CHW))
        if store.static_variables:
            static_CHW = np.empty((len(store.static_variables), *shape), np.float32)
            store.static_frames.read_frame((trajectory,), [static_CHW])
            static.append(moments_of(static_CHW[None]))
    return merge_moments(state, len(store.variables)), merge_moments(static, len(store.static_variables))


def pooled_normalizer(
    stores: Sequence[SampleStore], chosen: Sequence[Flags | None] | None = None
) -> Normalizer:
    """The normaliser of several stores together: variables of the same key share one scale.

    Args:
        stores: whose training frames count.
        chosen: (N, T) the frames that count of each store, None for all of its training split.

    Raises:
        DataError: no store has training frames.
        ConfigError: a variable's units differ between stores.
    """
    variables: dict[str, Variable] = {}
    parts: dict[str, list[Moments]] = {}
    for store, frames in zip(stores, chosen or [None] * len(stores), strict=True):
        for variable, moments in _moments(store) if frames is None else _chosen_moments(store, frames):
            # One scale for numbers in different units would mean nothing.
            known = variables.setdefault(variable.key, variable)
            if not known.same_values(variable):
                raise ConfigError(
                    f"normalization: pooled: {variable.key} is in {known.describe_values()!r} in one store "
                    f"and in {variable.describe_values()!r} in {store.label}"
                )
            parts.setdefault(variable.key, []).append(moments)
    # Moments are merged, not statistics averaged: the means of the stores differ too.
    totals = {key: merge_moments(found, 1) for key, found in parts.items()}
    if not any(total.count[0] for total in totals.values()):
        raise DataError("normalization: pooled: in no store does any frame train")
    std = [1.0 if m.constant(m.magnitude)[0] else float(np.sqrt(m.variance[0])) for m in totals.values()]
    return Normalizer(tuple(totals), np.array([total.mean[0] for total in totals.values()]), np.array(std))


def _moments(store: SampleStore) -> Iterator[tuple[Variable, Moments]]:
    """Each variable and the moments of its channel."""
    stats = store.stats
    state = (stats.count, stats.mean, stats.std, stats.constant, stats.minimum, stats.maximum)
    static = (
        stats.static_count,
        stats.static_mean,
        stats.static_std,
        stats.static_constant,
        stats.static_minimum,
        stats.static_maximum,
    )
    for variables, columns in ((store.variables, state), (store.static_variables, static)):
        for number, variable in enumerate(variables):
            yield variable, _channel_moments(*(c[number : number + 1].astype(np.float64) for c in columns))


def _chosen_moments(store: SampleStore, frames_NT: Flags) -> Iterator[tuple[Variable, Moments]]:
    """Each variable and the moments of its channel in some frames."""
    for variables, total in zip(
        (store.variables, store.static_variables), _frame_moments(store, frames_NT), strict=True
    ):
        for number, variable in enumerate(variables):
            yield (
                variable,
                Moments(*(getattr(total, part.name)[number : number + 1] for part in fields(total))),
            )


def _channel_moments(
    count: Floats, mean: Floats, std: Floats, constant: Floats, minimum: Floats, maximum: Floats
) -> Moments:
    # Statistics of a store have 1 for the deviation of constant channels and NaN for extremes of empty ones.
    empty = count == 0
    return Moments(
        count=count,
        mean=mean,
        m2=np.where(constant > 0, 0.0, count * std**2),
        minimum=np.where(empty, np.inf, minimum),
        maximum=np.where(empty, -np.inf, maximum),
    )
