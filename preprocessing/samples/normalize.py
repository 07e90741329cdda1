"""Normalisation: to zero mean and unit variance, channel by channel, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pelagos.preprocessing.array_types import Floats
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
        keys: the variables' keys, in the order of the channels.
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


def scaled_by_increments(normalizer: Normalizer, stores: Sequence[SampleStore]) -> Normalizer:
    """The normaliser with prognostic variables scaled so that all change as much from frame to frame.

    Each deviation is multiplied by r / g, where r is the deviation of the normalised increments of the variable at its
    level, and g the geometric mean of all r: slow variables get larger values, and squared errors the weight g² / r²
    (residual scaling as in CREDIT: Schreck et al. 2024, arXiv 2411.07814).

    Args:
        normalizer: the scales by mean and deviation.
        stores: whose increments count; those of a variable that several have are pooled.
    """
    sums: dict[str, list[float]] = {}
    for store in stores:
        for number, variable in enumerate(store.variables):
            increment, count = float(store.stats.tendency_std[number]), float(store.stats.count[number])
            # Statistics have 1 for a deviation that would be 0: what does not change says nothing of others.
            if variable.role == "prognostic" and count and increment != 1.0:
                total = sums.setdefault(variable.key, [0.0, 0.0])
                sums[variable.key] = [total[0] + count, total[1] + count * increment**2]
    ratios = {
        key: np.sqrt(square / count) / normalizer.std[normalizer.keys.index(key)]
        for key, (count, square) in sums.items()
    }
    ratios = {key: float(ratio) for key, ratio in ratios.items() if ratio > 0}
    if not ratios:
        return normalizer
    mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
    factors = np.array([ratios.get(key, mean) / mean for key in normalizer.keys])
    return Normalizer(normalizer.keys, normalizer.mean, normalizer.std * factors)


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
