import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.samples.normalize import Normalizer, scaled_by_increments
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.store.store import Store, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(build(configuration(tmp_path_factory.mktemp("stores"), {"static": "varying"})))


def test_training_frames_get_zero_mean_and_unit_variance(store: Store) -> None:
    normalizer = Normalizer.of(store).select(["velocity_x", "velocity_y"])
    frames = np.stack([store.read(i, 0, 5) for i in range(4)]).astype(np.float64)
    normalized = normalizer.normalize(frames)
    assert normalized.mean((0, 1, 3, 4)) == pytest.approx([0, 0], abs=1e-12)
    assert normalized.std((0, 1, 3, 4)) == pytest.approx([1, 1], rel=1e-12)


def test_denormalising_undoes_it_for_arrays_and_tensors(store: Store) -> None:
    normalizer = Normalizer.of(store).select(["depth", "velocity_x"])
    x = np.random.default_rng(0).normal(5, 2, (3, 2, 4, 4))
    assert normalizer.denormalize(normalizer.normalize(x)) == pytest.approx(x, rel=1e-12)
    tensor = torch.from_numpy(x).float()
    normalized = normalizer.normalize(tensor)
    assert normalized.dtype == torch.float32
    assert normalized.numpy() == pytest.approx(normalizer.normalize(x), rel=1e-4, abs=1e-5)
    assert torch.allclose(normalizer.denormalize(normalized), tensor, rtol=1e-5)


def test_json_gives_an_equal_normaliser(store: Store) -> None:
    normalizer = Normalizer.of(store)
    again = Normalizer.from_json(json.loads(json.dumps(normalizer.to_json())))
    assert again.keys == normalizer.keys == ("velocity_x", "velocity_y", "depth")
    assert again.mean.tobytes() == normalizer.mean.tobytes()


def test_a_variable_without_a_scale_is_named(store: Store) -> None:
    with pytest.raises(ConfigError, match="no scale is known for pressure; there are velocity_x, velocity_y"):
        Normalizer.of(store).select(["velocity_x", "pressure"])


def test_a_store_without_training_frames_has_nothing_to_normalise_by(tmp_path: Path) -> None:
    splits = {"kind": "trajectories", "train": 0, "test": 6}
    store = open_store(build(configuration(tmp_path, splits=splits)))
    with pytest.raises(DataError, match="no frame trains"):
        Normalizer.of(store)


def test_scaling_by_increments_makes_all_variables_change_as_much(store: Store) -> None:
    plain = Normalizer.of(store)
    stats = replace(store.stats, tendency_std=np.array([0.5, 0.02]))
    changing = cast(SampleStore, SimpleNamespace(variables=store.variables, stats=stats))
    scaled = scaled_by_increments(plain, [changing, changing])
    places = [plain.keys.index(name) for name in ("velocity_x", "velocity_y")]
    assert scaled.std[places[0]] / scaled.std[places[1]] == pytest.approx(0.5 / 0.02)
    # The geometric mean of the scales of what is forecast stays, and so do all others.
    ratio = scaled.std / plain.std
    assert np.prod(ratio[places]) == pytest.approx(1)
    assert ratio[plain.keys.index("depth")] == 1
    assert np.array_equal(scaled.mean, plain.mean)


def test_what_changes_by_the_same_everywhere_keeps_its_scale(store: Store) -> None:
    plain = Normalizer.of(store)
    stats = replace(store.stats, tendency_std=np.array([1.0, 1.0]))  # what stands for no deviation
    still = cast(SampleStore, SimpleNamespace(variables=store.variables, stats=stats))
    assert scaled_by_increments(plain, [still]) is plain
