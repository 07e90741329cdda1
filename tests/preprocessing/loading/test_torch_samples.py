"""Torch's own loaders get the samples of a store, which stay as they were however many follow."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from two_stores import build_stores

from pelagos.preprocessing.errors import ConfigError, MissingFileError
from pelagos.preprocessing.loading.torch_samples import Samples, SampleStream
from pelagos.preprocessing.samples.dataset import DatasetConfig


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_stores(tmp_path_factory.mktemp("stores"))


def test_samples_are_those_of_the_store_one_by_one_and_together(paths: list[Path]) -> None:
    samples = Samples(paths[0])
    expected = DatasetConfig(path=paths[0]).open().batch(np.arange(len(samples)))
    assert len(samples) == 40
    for number, sample in enumerate(samples):
        for part in ("inputs", "targets", "mask", "lead_time", "index"):
            assert np.array_equal(sample[part], getattr(expected, part)[number])
    [batch] = DataLoader(samples, batch_size=40)
    assert torch.equal(batch["inputs"], expected.inputs)
    assert torch.equal(batch["index"], expected.index)
    assert torch.equal(samples[-1]["targets"], expected.targets[-1])
    with pytest.raises(IndexError, match="sample 40 of 40"):
        samples[40]


def test_a_process_that_opens_the_store_anew_reads_the_same(paths: list[Path]) -> None:
    samples = Samples(paths[0], sampling={"kind": "windows", "steps": 2}, limit=6)
    assert samples[0]["targets"].ndim == 4
    # What a worker process is sent, without the seconds that it takes to start.
    again = copy.deepcopy(samples)
    assert again._dataset.store is not samples._dataset.store
    assert all(
        torch.equal(one["targets"], other["targets"]) for one, other in zip(samples, again, strict=True)
    )


def test_targets_go_back_to_physical_values(paths: list[Path]) -> None:
    samples = Samples(paths[0])
    store = DatasetConfig(path=paths[0]).store()
    sample = samples[3]
    trajectory, _, valid = sample["index"].tolist()
    np.testing.assert_allclose(
        samples.physical(sample["targets"]), store.read(trajectory, valid, valid + 1)[0], rtol=1e-5, atol=1e-5
    )


def test_a_batch_of_a_stream_can_be_kept_and_one_that_shares_memory_is_asked_for(paths: list[Path]) -> None:
    stream = SampleStream(paths, 5, seed=3, steps=30)
    kept = list(DataLoader(stream, batch_size=None))
    fresh = [batch.inputs.clone() for batch in SampleStream(paths, 5, seed=3, steps=30, reuse=True)]
    assert len(kept) == 30
    assert all(torch.equal(batch.inputs, inputs) for batch, inputs in zip(kept, fresh, strict=True))
    places = [batch.inputs.data_ptr() for batch in SampleStream(paths, 5, seed=3, steps=30, reuse=True)]
    assert len(set(places)) < 30


def test_a_stream_gives_samples_as_they_are_stored(paths: list[Path]) -> None:
    by_index = {tuple(sample["index"].tolist()): sample["inputs"] for sample in Samples(paths[0])}
    for batch in SampleStream(paths[0], 5, seed=3, steps=4):
        for index, inputs in zip(batch.index.tolist(), batch.inputs, strict=True):
            assert torch.equal(inputs, by_index[tuple(index)])


def test_a_stream_without_a_seed_is_every_sample_once(paths: list[Path]) -> None:
    [stream] = [SampleStream(paths[1], 8, seed=None)]
    found = torch.cat([batch.index for batch in stream])
    assert len(found) == len(torch.unique(found, dim=0)) == 70


def test_processes_share_the_batches_of_a_step(paths: list[Path]) -> None:
    one = torch.stack([batch.index for batch in SampleStream(paths[0], 4, steps=4)])
    two = [
        torch.stack([batch.index for batch in SampleStream(paths[0], 4, steps=2, rank=rank, world=2)])
        for rank in range(2)
    ]
    assert torch.equal(torch.stack(two, 1).flatten(0, 1), one)


def test_what_cannot_be_is_said(paths: list[Path]) -> None:
    with pytest.raises(MissingFileError, match="no such store"):
        Samples(paths[0].with_name("none.zarr"))
    with pytest.raises(ConfigError, match=r"samples of .*split: Input should be 'train', 'valid' or 'test'"):
        Samples(paths[0], "held out")
    loader = DataLoader(SampleStream(paths[0], 4, steps=1), batch_size=None, num_workers=1)
    with pytest.raises(ConfigError, match="num_workers=0"):
        next(iter(loader))
