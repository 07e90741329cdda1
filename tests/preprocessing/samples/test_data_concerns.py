"""Constants that a scale puts at rest are left out, foreign scales are named, and so is what the build assumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.samples.data_concerns import concerns
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A velocity that moves, and one that is 1 everywhere."""
    values = Analytic.values

    def resting(self: Analytic, name: str) -> np.ndarray[Any, Any]:
        field = values(self, name)
        return np.ones_like(field) if name == "velocity_y" else field

    monkeypatch.setattr(Analytic, "values", resting)
    return open_store(build(configuration(tmp_path)))


def scaled(store: Store, mean: float = 0.0, std: float = 1.0) -> Normalizer:
    """The store's normaliser, with another mean and deviation of both fields, in its own deviations."""
    own = Normalizer.of(store)
    return Normalizer(own.keys, own.mean + mean * own.std, own.std * std)


def told(store: Store, normalizer: Normalizer) -> list[str]:
    layout = DatasetConfig(path=store.path).open(normalizer).layout
    return list(concerns(store, normalizer, layout.outputs, layout.at_rest))


def test_a_constant_is_at_rest_by_its_own_scale_but_not_by_that_of_a_model_that_knows_it_in_motion(
    store: Store,
) -> None:
    assert DatasetConfig(path=store.path).open().layout.at_rest == {"velocity_y"}
    assert DatasetConfig(path=store.path).open(scaled(store, mean=-0.6)).layout.at_rest == frozenset()


def test_the_dataset_of_a_constant_field_says_so(store: Store) -> None:
    assert told(store, Normalizer.of(store)) == [
        "velocity_y is constant in all that trains: relative losses leave it out"
    ]


@pytest.mark.parametrize(("mean", "std"), [(0, 100), (0, 1 / 100), (300, 1)])
def test_a_scale_far_from_the_data_is_named_with_both(store: Store, mean: float, std: float) -> None:
    lines = told(store, scaled(store, mean, std))
    assert any(line.startswith("velocity_x is") and "scales: store" in line for line in lines)


def test_a_scale_near_the_data_is_not(store: Store) -> None:
    assert not any("scales: store" in line for line in told(store, scaled(store, 1.0, 2.0)))
