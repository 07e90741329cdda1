"""Validation is on fixed, bounded sets of held-out samples, and on rollouts where asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos.pipeline.training.held_out import held_out_orders
from pelagos.pipeline.training.trainer import LoopConfig
from pelagos.preprocessing.errors import ConfigError, PelagosError
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.store import open_store


@pytest.fixture
def mixture(waves: Path) -> Mixture:
    config = DatasetConfig(path=waves, num_trajectories=1)
    return Mixture(
        [config.open(Normalizer.of(open_store(waves)))], weights=[1.0], batch_size=4, micro_batch=2
    )


def loop(**values: Any) -> LoopConfig:
    return LoopConfig.model_validate({"steps": 4, "batch_size": 4, "micro_batch": 2, **values})


def test_samples_are_of_all_held_out_trajectories_and_no_others(mixture: Mixture, waves: Path) -> None:
    held = np.flatnonzero(open_store(waves).splits["valid"].any(axis=1))
    [dataset] = held_out_orders(mixture, loop())["valid"].datasets
    used = dataset.batch(np.arange(dataset.num_samples)).index[:, 0]
    assert np.array_equal(np.unique(used), held)


def test_samples_are_bounded(mixture: Mixture) -> None:
    order = held_out_orders(mixture, loop(validation_samples=5))["valid"]
    assert sum(len(block.samples) for block in order.blocks(0, 1, 0, None)) == 5


def test_rollouts_are_scored_last_where_they_are_asked_for(mixture: Mixture) -> None:
    orders = held_out_orders(mixture, loop(validation_rollout=3))
    assert list(orders) == ["valid", "valid_rollout"]
    assert {block.steps for block in orders["valid_rollout"].blocks(0, 1, 0, None)} == {3}


def test_rollouts_longer_than_the_trajectories_are_refused(mixture: Mixture) -> None:
    with pytest.raises(PelagosError, match="split valid"):
        held_out_orders(mixture, loop(validation_rollout=6))


@pytest.mark.parametrize("values", [{"patience": 1}, {"kept": "best"}])
def test_a_choice_of_weights_needs_held_out_samples(
    mixture: Mixture, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    [dataset] = mixture.datasets
    monkeypatch.setitem(dataset.store.splits, "valid", dataset.store.splits["valid"] & False)
    assert held_out_orders(mixture, loop()) == {}
    with pytest.raises(ConfigError, match="no store has a valid split"):
        held_out_orders(mixture, loop(validate_every=1, **values))
