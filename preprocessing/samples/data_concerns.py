"""Data concerns: what in a dataset may spoil training on it, said before the first step."""

from collections.abc import Iterator, Sequence

from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import Variable, keys

_FAR = 10.0
"""So many times wider, narrower or further from the mean is another scale."""


def concerns(
    store: SampleStore, normalizer: Normalizer, outputs: Sequence[Variable], at_rest: frozenset[str]
) -> Iterator[str]:
    """What may spoil training on a dataset, a line each.

    Args:
        store: the dataset's store.
        normalizer: of its samples, by its own statistics or a model's.
        outputs: the variables that are predicted.
        at_rest: keys of the outputs that relative losses leave out.
    """
    constant = _constant(store)
    for key in keys(outputs):
        if constant[key]:
            left_out = ": relative losses leave it out" if key in at_rest else ""
            yield f"{key} is constant in all that trains{left_out}"
    # What is constant is told above, for stores of before this was recorded too.
    yield from (f"its build assumed {one}" for one in store.assumptions or () if one.code != "constant")
    yield from foreign_scales(store, normalizer)


def foreign_scales(store: SampleStore, normalizer: Normalizer) -> Iterator[str]:
    """Fields of which the scale in use, a model's or a pool's, is far from their own, a line each."""
    stats = store.stats
    if not stats.count.any():
        return
    own, constant = Normalizer.of(store), _constant(store)
    for key, mean, std in zip(own.keys, own.mean, own.std, strict=True):
        if key not in normalizer.keys:
            continue
        position = normalizer.keys.index(key)
        used_mean, used_std = normalizer.mean[position], normalizer.std[position]
        wide = 1.0 if constant.get(key) else std / used_std
        if not 1 / _FAR <= wide <= _FAR or abs(mean - used_mean) > _FAR * max(used_std, std):
            normalised = f"{(mean - used_mean) / used_std:.3g} +- {std / used_std:.3g}"
            yield (
                f"{key} is {mean:.4g} +- {std:.4g} here, and scaled by {used_mean:.4g} +- {used_std:.4g}: normalised,"
                f" it is {normalised}, where the network has learnt 0 +- 1; check its units, or take scales: store"
            )


def _constant(store: SampleStore) -> dict[str, bool]:
    stats = store.stats
    return dict(zip(keys(store.variables), ((stats.count > 0) & stats.constant).tolist(), strict=True))
