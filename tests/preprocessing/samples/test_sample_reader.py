import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.store.memory_reader import MemoryReader
from pelagos.preprocessing.store.store import open_store

RICH = {"names": ["heating", "density", "velocity_x", "velocity_y"], "static": "varying", "scalars": True}


def make(tmp_path: Path, source: dict[str, Any] | None = None, **options: Any) -> Dataset:
    build_options = {key: options.pop(key) for key in ("codec", "missing", "splits") if key in options}
    path = build(configuration(tmp_path, RICH if source is None else source, **build_options))
    return DatasetConfig(path=path, **options).open()


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize("size", [8, 200])
@pytest.mark.parametrize("kind", ["pairs", "windows", "rollouts"])
def test_reading_mapping_and_memory_give_the_same_bits(
    tmp_path: Path, kind: str, size: int, codec: str
) -> None:
    names = ["velocity_x", "velocity_y", "density", "heating"]
    source = {"names": names, "static": "varying", "sea": 3, "times": 4, "trajectories": 3, "size": size}
    dataset = make(tmp_path, source, codec=codec, missing="keep")
    sampling = {"kind": kind} if kind == "pairs" else {"kind": kind, "steps": 3}
    config = DatasetConfig.model_validate({"path": dataset.config.path, "sampling": sampling})
    store = open_store(dataset.config.path)
    state = np.stack([store.read(trajectory, 0, 4) for trajectory in range(3)])
    in_memory = Dataset(replace(store, frames=MemoryReader(state)), config, dataset.normalizer)
    on_disk = config.open()
    frames = on_disk.frames_of(np.arange(on_disk.num_samples))
    for scaled in (False, True):
        found = []
        for one, warm in ((in_memory, False), (on_disk, False), (on_disk, True)):
            buffers = one.shapes.buffers(one.num_samples)
            one.read(frames, buffers, scaled=scaled, warm=warm)
            found.append((buffers.inputs, buffers.targets, buffers.mask, buffers.forcings))
        assert np.isnan(found[0][1]).any() != scaled
        for other in found[1:]:
            for expected, values in zip(found[0], other, strict=True):
                assert np.array_equal(expected, values, equal_nan=True)


def test_a_shard_that_is_shortened_while_it_is_open_is_named(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    expected = dataset.batch(np.arange(dataset.num_samples)).inputs
    assert torch.equal(dataset.batch(np.arange(3)).inputs, expected[:3])
    shards = sorted(
        path for path in Path(str(dataset.config.path), "state", "c").rglob("*") if path.is_file()
    )
    os.truncate(shards[0], 100)
    with pytest.raises(DamagedFileError, match="0: the shard ends before its index says so"):
        dataset.batch(np.arange(dataset.num_samples))
