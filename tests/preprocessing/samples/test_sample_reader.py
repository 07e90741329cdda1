import os
import time
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
from pelagos.preprocessing.samples.sample_reader import SampleShapes, WaitMeter
from pelagos.preprocessing.store.frame_reader import MemoryReader
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


PAIRS = SampleShapes(inputs=(3, 4, 5), targets=(2, 4, 5), forcings=(0, 1, 4, 5))
ROLLOUTS = SampleShapes(inputs=(3, 4, 5), targets=(3, 2, 4, 5), forcings=(2, 1, 4, 5))


@pytest.mark.parametrize("shapes", [PAIRS, ROLLOUTS])
def test_kernels_fill_the_same_memory(shapes: SampleShapes) -> None:
    buffers = shapes.buffers(6)
    steps = shapes.forcings[0] + 1
    assert buffers.flat.inputs.shape == (6, 3, 20)
    assert buffers.flat.targets.shape == buffers.flat.mask.shape == (6, steps, 2, 20)
    assert buffers.flat.forcings.shape == (6, steps - 1, 1, 20)
    for part, flat in (
        (buffers.inputs, buffers.flat.inputs),
        (buffers.targets, buffers.flat.targets),
        (buffers.mask, buffers.flat.mask),
    ):
        assert np.shares_memory(part, flat)


def test_every_target_exists_until_a_reader_says_otherwise() -> None:
    assert ROLLOUTS.buffers(2).mask.all()


@pytest.mark.parametrize(("shapes", "fields"), [(PAIRS, 3 + 2), (ROLLOUTS, 3 + 3 * 2 + 2 * 1)])
def test_a_sample_takes_the_bytes_of_its_fields(shapes: SampleShapes, fields: int) -> None:
    assert shapes.buffers(7).sample_bytes == 4 * fields * 4 * 5
    assert shapes.buffers(0).sample_bytes == 0


def test_sleep_is_waiting_and_arithmetic_is_not() -> None:
    meter = WaitMeter()
    assert meter.waited
    seen = []
    for _ in range(20):  # another process may have the processor meanwhile
        with meter:
            sum(range(20_000))
        seen.append(meter.waited)
    assert not all(seen)
    with meter:
        time.sleep(0.01)
    assert meter.waited
