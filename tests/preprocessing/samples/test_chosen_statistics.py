from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.samples.chosen_statistics import chosen_statistics
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer, scaled_by_increments
from pelagos.preprocessing.samples.pooled_scales import pooled_normalizer
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.store import open_store

FLOW = {"kind": "navier_stokes", "tracer": True}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of flows of which the first alone is slow, and has no tracer but its mean."""
    folder = tmp_path_factory.mktemp("flow")
    size = {"num_trajectories": 5, "shape": (8, 8), "num_frames": 4, "interval": 0.04}
    ds = simulate(SimulateConfig.model_validate({"equation": FLOW, **size})).load()
    for name in ("velocity_x", "velocity_y"):
        ds[name][1:] *= 10
    ds["tracer"][0] = 0.5
    well_writer.write(ds, folder / "flow.hdf5")
    values = {
        "dataset": "flow",
        "source": {"kind": "the_well", "paths": str(folder / "flow.hdf5")},
        "root": str(folder),
        "splits": {"kind": "trajectories", "valid": 1},
    }
    return build(BuildConfig.model_validate(values))


@pytest.mark.parametrize("static", ["none", "varying"])
def test_statistics_of_all_frames_that_train_are_those_of_the_build(tmp_path: Path, static: str) -> None:
    source = {"static": static, "missing": (1, 2), "trajectories": 5}
    store = open_store(build(configuration(tmp_path, source, missing="keep")))
    found = chosen_statistics(store, store.splits["train"])
    for field in fields(found):
        expected = getattr(store.stats, field.name)
        assert getattr(found, field.name) == pytest.approx(expected, rel=1e-12, nan_ok=True), field.name


def test_changes_across_a_frame_that_is_not_chosen_do_not_count(flow: Path) -> None:
    store = open_store(flow)
    chosen = np.zeros_like(store.splits["train"])
    chosen[0, [0, 1, 3]] = chosen[2, 3] = True
    found, frames = chosen_statistics(store, chosen), store.read(0, 0, 4).astype(np.float64)
    assert found.count.tolist() == [4 * 64] * 3
    assert found.tendency_std[1:] == pytest.approx((frames[1] - frames[0]).std((1, 2))[1:], rel=1e-6)


def test_of_trajectories_that_are_not_chosen_nothing_is_known(flow: Path) -> None:
    config = DatasetConfig.model_validate(
        {"path": flow, "num_trajectories": 1, "augment": {"equation": FLOW, "galilean": 2.0}}
    )
    dataset = config.open()
    frames = open_store(flow).read(0, 0, 4).astype(np.float64)
    deviations, changes = frames.std((0, 2, 3)), np.diff(frames, axis=0).std((0, 2, 3))
    x, y = (dataset.normalizer.keys.index(name) for name in ("velocity_x", "velocity_y"))
    for normalizer in (dataset.normalizer, pooled_normalizer([dataset.store])):
        assert normalizer.std[[x, y]] == pytest.approx(deviations[[x, y]], rel=1e-6)
        scaled = scaled_by_increments(normalizer, [dataset.store])
        assert scaled.std[x] / scaled.std[y] == pytest.approx(changes[x] / changes[y], rel=1e-6)
    assert dataset.layout.at_rest == {"tracer"}
    assert dataset.augmentation is not None
    assert dataset.augmentation.speed == pytest.approx(2 * deviations[[y, x]], rel=1e-6)


def test_samples_that_are_scored_are_scaled_by_all_that_train(flow: Path) -> None:
    dataset = DatasetConfig(path=flow, split="valid", num_trajectories=1).open()
    assert np.array_equal(dataset.normalizer.std, Normalizer.of(open_store(flow)).std)
    assert not dataset.layout.at_rest


def test_more_trajectories_than_there_are_is_an_error(flow: Path) -> None:
    with pytest.raises(ConfigError, match=r"flow.*\.zarr, split train: num_trajectories: 5 of the 4 in"):
        DatasetConfig(path=flow, num_trajectories=5).store()
