from pathlib import Path

import numpy as np
import pytest
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.pooled_scales import pooled_normalizer
from pelagos.preprocessing.store.store import Store, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(build(configuration(tmp_path_factory.mktemp("stores"), {"static": "varying"})))


def test_pooled_statistics_are_those_of_all_values_together(tmp_path: Path, store: Store) -> None:
    source = {"trajectories": 5, "names": ["velocity_y", "density"]}
    other = open_store(build(configuration(tmp_path, source)))
    pooled = pooled_normalizer([store, other])
    assert pooled.keys == ("velocity_x", "velocity_y", "depth", "density")
    values = np.concatenate(
        [Analytic(**source).values("velocity_y")[:3], Analytic().values("velocity_y")[:4]]
    )
    y = pooled.select(["velocity_y"])
    assert y.mean == pytest.approx(values.astype(np.float64).mean(), rel=1e-12)
    assert y.std == pytest.approx(values.astype(np.float64).std(), rel=1e-12)
    assert pooled.select(["velocity_x"]).std == Normalizer.of(store).select(["velocity_x"]).std


def test_pooling_different_units_is_refused(tmp_path: Path, store: Store) -> None:
    convert = {"velocity_y": {"units": "km s-1", "scale": 1e-3}}
    other = open_store(build(configuration(tmp_path, convert=convert)))
    with pytest.raises(ConfigError, match="velocity_y is in 'm s-1' in one store and in 'km s-1' in"):
        pooled_normalizer([store, other])


def test_constant_channels_are_only_shifted(tmp_path: Path) -> None:
    store = open_store(build(configuration(tmp_path, {"trajectories": 3, "size": 1, "times": 1})))
    normalizer = pooled_normalizer([store])
    assert normalizer.std.tolist() == [1, 1]
    assert normalizer.normalize(store.read(0, 0, 1))[0].ravel() == pytest.approx([0, 0], abs=1e-7)


def test_stores_without_training_frames_have_nothing_to_normalise_by(tmp_path: Path) -> None:
    splits = {"kind": "trajectories", "train": 0, "test": 6}
    store = open_store(build(configuration(tmp_path, splits=splits)))
    with pytest.raises(DataError, match="in no store does any frame train"):
        pooled_normalizer([store])
