"""Pooled scales: the normaliser of several stores together."""

from collections.abc import Iterator, Sequence

import numpy as np

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.channel_statistics.moments import Moments, merge_moments
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import Variable


def pooled_normalizer(stores: Sequence[SampleStore]) -> Normalizer:
    """The normaliser of several stores together: variables of the same key share one scale.

    Raises:
        DataError: no store has training frames.
        ConfigError: a variable's units differ between stores.
    """
    variables: dict[str, Variable] = {}
    parts: dict[str, list[Moments]] = {}
    for store in stores:
        for variable, moments in _moments(store):
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
