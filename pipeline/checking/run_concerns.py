"""Run concerns: what of a training run would work but is probably not meant."""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pelagos.pipeline.checking.check_finding import CheckFinding, warning
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.online.online_dataset import OnlineDataset
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.store.store import Store

_LABELS = re.compile(
    r"(?:^|_)(?:seed|seeds|id|ids|idx|index|number|case|run|realisation|realization)(?:_|$)", re.I
)
_COUNTED = 4
"""Fewer trajectories say nothing by whole numbers that follow one another."""


def run_concerns(config: TrainingStage, mixture: Mixture) -> Iterator[CheckFinding]:
    """What would run but is probably not meant, the costliest to find out late first."""
    yield from _validation(config, mixture)
    yield from _batch(config, mixture)
    for dataset in mixture.datasets:
        yield from _splits(dataset)
        yield from _leads(dataset)
        yield from _conditions(dataset)


def _validation(config: TrainingStage, mixture: Mixture) -> Iterator[CheckFinding]:
    if any(dataset.store.splits["valid"].any() for dataset in mixture.datasets):
        return
    for key in ("validate_every", "validation_rollout"):
        if value := getattr(config.loop, key):
            yield warning(
                f"loop.{key}: {value} asks for validations, and no store has a valid split: nothing will be"
                " validated; build one with splits: {valid: ...}"
            )


def _batch(config: TrainingStage, mixture: Mixture) -> Iterator[CheckFinding]:
    samples = sum(dataset.num_samples for dataset in mixture.datasets)
    if not any(isinstance(dataset, OnlineDataset) for dataset in mixture.datasets):
        # Simulations have no end, so that no batch is too large for them.
        if config.loop.batch_size > samples:
            yield warning(
                f"loop.batch_size: {config.loop.batch_size} is more than the {samples} samples that there are: every"
                " step repeats some of them"
            )
        elif config.loop.micro_batch > (least := min(mixture.datasets, key=_size)).num_samples:
            yield warning(
                f"loop.micro_batch: {config.loop.micro_batch} is more than the {least.num_samples} samples of"
                f" {least.store.label}: each micro-batch of it repeats some"
            )


def _size(dataset: Dataset) -> int:
    return dataset.num_samples


def _splits(dataset: Dataset) -> Iterator[CheckFinding]:
    if not isinstance(dataset.store, Store):
        return  # a simulation has no test split, and `valid` of its own
    absent = [name for name in ("valid", "test") if not dataset.store.splits[name].any()]
    if absent:
        effects = {"valid": "nothing tells overfitting", "test": "evaluate finds nothing held out to score"}
        yield warning(
            f"{dataset.store.label} has no {' and no '.join(absent)} split:"
            f" {', and '.join(effects[name] for name in absent)}"
        )


def _leads(dataset: Dataset) -> Iterator[CheckFinding]:
    sampling = dataset.sampling
    if sampling.kind != "pairs" or sampling.max_lead is None:
        return  # windows that do not fit are an error
    reach = round(dataset.leads[1] / dataset.store.dt)
    # A lead is a multiple of the stride: one just below the limit uses it up.
    if reach + sampling.stride <= sampling.max_lead:
        yield warning(
            f"max_lead: {sampling.max_lead} frames, and trajectories of {dataset.store.label} have pairs of at most"
            f" {reach} in split {dataset.config.split}: longer lead times will not be trained"
        )


def _conditions(dataset: Dataset) -> Iterator[CheckFinding]:
    for name, values in zip(dataset.store.params, dataset.store.scalar_values.T, strict=True):
        named, counted = bool(_LABELS.search(name)), _counts(values)
        if named or counted:
            why = "by its name" if named else "since it counts the trajectories"
            yield warning(
                f"the scalar {name} of {dataset.store.label} looks like a label rather than a parameter {why}: the"
                " network is conditioned on it, and can learn trajectories by heart; leave it out of the archive if it"
                " is one"
            )


def _counts(values: Floats) -> bool:
    """Whether the values number the trajectories: consecutive whole numbers, each once."""
    found = np.sort(values[np.isfinite(values)])
    if len(found) < _COUNTED or not np.array_equal(found, np.rint(found)):
        return False
    return all(two - one == 1 for one, two in pairwise(found))
