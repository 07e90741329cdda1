"""Normalisation: to zero mean and unit variance, channel by channel, and back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.channel_statistics.moments import Moments, merge_moments, moments_of
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import Variable, keys

Array = TypeVar("Array", NDArray[Any], Tensor)
# Of a normalised constant. Scales of the dataset itself leave the rounding of its mean; those of a model that knows the
# field in motion leave far more, and then its error relative to the target means something.
_AT_REST = 1e-3


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Scales C channels by their mean and standard deviation.

    Attributes:
        keys: of the variables, in the order of the channels.
        mean: (C,) in physical units.
        std: (C,) in physical units, never 0.
    """

    keys: tuple[str, ...]
    mean: Floats
    std: Floats

    @classmethod
    def of(cls, store: SampleStore) -> "Normalizer":
        """The normaliser of one store: its statistics, for state and static channels.

        Raises:
            DataError: the store has no training frames.
        """
        stats = store.stats
        if not stats.count.any():
            raise DataError(f"{store.label}: no frame trains, so there are no statistics to normalise by")
        return cls(
            keys=keys((*store.variables, *store.static_variables)),
            mean=np.concatenate([stats.mean, stats.static_mean]),
            std=np.concatenate([stats.std, stats.static_std]),
        )

    @classmethod
    def of_frames(cls, store: SampleStore, frames_NT: Flags) -> "Normalizer":
        """The normaliser of some frames of a store, which are read for it, and of their trajectories' static fields.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        state, static = [], []
        shape = store.grid.shape
        for trajectory in np.flatnonzero(frames_NT.any(axis=1)).tolist():
            fields_1CHW = np.empty((1, len(store.variables), *shape), np.float32)
            for time in np.flatnonzero(frames_NT[trajectory]).tolist():
                store.frames.read_frames((trajectory, time), fields_1CHW)
                state.append(moments_of(fields_1CHW))
            if store.static_variables:
                static_CHW = np.empty((len(store.static_variables), *shape), np.float32)
                store.static_frames.read_frame((trajectory,), [static_CHW])
                static.append(moments_of(static_CHW[None]))
        totals = (
            merge_moments(state, len(store.variables)),
            merge_moments(static, len(store.static_variables)),
        )
        return cls(
            keys=keys((*store.variables, *store.static_variables)),
            mean=np.concatenate([total.mean for total in totals]),
            std=np.concatenate([np.where(t.constant(t.magnitude), 1.0, np.sqrt(t.variance)) for t in totals]),
        )

    @classmethod
    def pooled(cls, stores: Sequence[SampleStore]) -> "Normalizer":
        """The normaliser of several stores together: variables of the same key share one scale.

        Raises:
            DataError: no store has training frames.
            ConfigError: a variable's units differ between stores.
        """
        variables: dict[str, Variable] = {}
        parts: dict[str, list[Moments]] = {}
        for store in stores:
            for variable, moments in _moments(store):
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
        return cls(tuple(totals), np.array([total.mean[0] for total in totals.values()]), np.array(std))

    def select(self, names: Sequence[str]) -> "Normalizer":
        """The normaliser of the given channels, in their order.

        Raises:
            ConfigError: no scale of one of them is known.
        """
        if unknown := [name for name in names if name not in self.keys]:
            raise ConfigError(f"no scale is known for {', '.join(unknown)}; there are {', '.join(self.keys)}")
        positions = [self.keys.index(name) for name in names]
        return Normalizer(tuple(names), self.mean[positions], self.std[positions])

    def normalize(self, x_CHW: Array) -> Array:
        """(..., C, H, W) physical to normalised values."""
        mean, std = self._columns(x_CHW)
        normalized: Array = (x_CHW - mean) / std
        return normalized

    def denormalize(self, x_CHW: Array) -> Array:
        """(..., C, H, W) normalised to physical values."""
        mean, std = self._columns(x_CHW)
        physical: Array = x_CHW * std + mean
        return physical

    def _columns(self, x_CHW: Array) -> tuple[Array, Array]:
        # In the precision of the fields, lest float32 fields become float64.
        mean, std = self.mean[:, None, None], self.std[:, None, None]
        if isinstance(x_CHW, Tensor):
            return torch.from_numpy(mean).to(x_CHW), torch.from_numpy(std).to(x_CHW)
        return mean.astype(x_CHW.dtype), std.astype(x_CHW.dtype)

    def to_json(self) -> dict[str, list[Any]]:
        """A JSON object from which `from_json` makes an equal normaliser."""
        return {"keys": list(self.keys), "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, list[Any]]) -> "Normalizer":
        """The inverse of `to_json`."""
        return cls(tuple(values["keys"]), np.array(values["mean"]), np.array(values["std"]))


def constant_outputs(
    store: SampleStore, normalizer: Normalizer, outputs: Sequence[Variable]
) -> frozenset[str]:
    """Keys of the outputs that are constant in all frames that train, and 0 when normalised."""
    order, stats = keys(store.variables), store.stats
    found = []
    for variable in outputs:
        if variable.key not in normalizer.keys:
            continue  # what lacks a scale is refused where it is needed
        number, scale = order.index(variable.key), normalizer.keys.index(variable.key)
        rest = abs(stats.mean[number] - normalizer.mean[scale]) <= _AT_REST * normalizer.std[scale]
        if stats.count[number] and stats.constant[number] and rest:
            found.append(variable.key)
    return frozenset(found)


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
