"""Mixtures and sweeps: which samples are drawn when, the same for any number of ranks."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from two_stores import build_stores, mixture

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples import mixture as mixture_module
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.lanes import Lanes
from pelagos.preprocessing.samples.mixture import Mixture, MixtureConfig, Sweep
from pelagos.preprocessing.samples.sample_index import PairSampling


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def datasets(paths: list[Path]) -> list[Dataset]:
    """40 samples of 8 x 8 points and 70 of 4 x 4."""
    return [DatasetConfig(path=path).open() for path in paths]


def drawn(order: Mixture, steps: range, world: int = 1) -> list[Counter[tuple[int, int]]]:
    """The samples of each global batch, over all ranks."""
    found = []
    for step in steps:
        blocks = [block for rank in range(world) for block in order.blocks(rank, world, step, 1)]
        assert len(blocks) == order.blocks_per_step
        found.append(Counter((block.dataset, int(sample)) for block in blocks for sample in block.samples))
    return found


def test_every_sample_is_drawn_exactly_once_an_epoch(datasets: list[Dataset]) -> None:
    order = mixture(datasets, batch_size=10)
    assert order.steps_per_epoch == 11
    for epoch in range(3):
        total = sum(drawn(order, range(11 * epoch, 11 * (epoch + 1))), Counter())
        assert set(total.values()) == {1}
        assert Counter(dataset for dataset, _ in total) == {0: 40, 1: 70}


def test_epochs_have_different_orders(datasets: list[Dataset]) -> None:
    order = mixture(datasets, batch_size=10)
    assert drawn(order, range(0, 2)) != drawn(order, range(11, 13))
    assert drawn(order, range(2)) != drawn(mixture(datasets, batch_size=10, seed=4), range(2))


def test_samples_that_fill_no_block_come_with_the_next_epoch(datasets: list[Dataset]) -> None:
    order = mixture(datasets, batch_size=7, micro_batch=7)
    # After 7 epochs of 110 samples all blocks are used up: each sample was drawn 7 times.
    total = sum(drawn(order, range(110)), Counter())
    assert len(total) == 110
    assert set(total.values()) == {7}
    counts = sum(drawn(order, range(55)), Counter())
    assert set(counts.values()) <= {2, 3, 4, 5}


def test_blocks_are_of_one_dataset(datasets: list[Dataset]) -> None:
    order = mixture(datasets)
    blocks = list(order.blocks(0, 1, 0, 40))
    assert {block.dataset for block in blocks} == {0, 1}
    assert {len(block.samples) for block in blocks} == {5}


@pytest.mark.parametrize("world", [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_ranks(datasets: list[Dataset], world: int) -> None:
    order = mixture(datasets)
    assert drawn(order, range(12), world) == drawn(order, range(12))


def test_the_order_does_not_depend_on_where_it_begins(datasets: list[Dataset]) -> None:
    whole = [(b.dataset, b.samples.tolist()) for b in mixture(datasets).blocks(1, 2, 0, 50)]
    rest = [(b.dataset, b.samples.tolist()) for b in mixture(datasets).blocks(1, 2, 37, 13)]
    assert whole[37 * 2 :] == rest


def test_weights_and_temperature_set_the_shares(datasets: list[Dataset]) -> None:
    assert mixture(datasets).shares.tolist() == [40, 70]
    assert mixture(datasets, weights=[3.0, 1.0]).shares.tolist() == [69, 41]
    assert mixture(datasets, temperature=1e9).shares.tolist() == [55, 55]
    counts = sum(drawn(mixture(datasets, temperature=1e9), range(200)), Counter())
    per_dataset = Counter({0: 0, 1: 0})
    for (dataset, _), number in counts.items():
        per_dataset[dataset] += number
    assert per_dataset[0] == pytest.approx(2000, abs=60)
    assert (
        max(counts[0, sample] for sample in range(40)) - min(counts[0, sample] for sample in range(40)) <= 1
    )


def test_sizes_that_do_not_divide_are_refused(datasets: list[Dataset]) -> None:
    with pytest.raises(ConfigError, match="batch_size: 20 is no multiple of micro_batch, 6"):
        mixture(datasets, micro_batch=6)
    with pytest.raises(ConfigError, match="4 blocks of 5 samples cannot be dealt to 3 ranks evenly"):
        Loader(mixture(datasets), world=3)


def test_pooled_normalisation_gives_a_variable_one_scale(paths: list[Path]) -> None:
    config = MixtureConfig(
        datasets=(
            DatasetConfig(path=paths[0], sampling=PairSampling(max_lead=1)),
            DatasetConfig(path=paths[1]),
        ),
        batch_size=4,
        micro_batch=4,
        normalization="pooled",
    )
    order = config.build()
    assert [dataset.num_samples for dataset in order.datasets] == [16, 70]
    one, other = (dataset.output_normalizer.select(["velocity_x"]) for dataset in order.datasets)
    assert (one.mean, one.std) == (other.mean, other.std)
    separate = config.model_copy(update={"normalization": "dataset"}).build()
    one, other = (dataset.output_normalizer.select(["velocity_x"]) for dataset in separate.datasets)
    assert one.std != other.std


def test_a_pool_reads_each_trajectory_once_and_changes_no_sample(paths: list[Path]) -> None:
    pooled, plain = (DatasetConfig(path=paths[1], pool=pool).open() for pool in (2, 0))
    samples = np.arange(plain.num_samples)
    assert np.array_equal(pooled.batch(samples).inputs, plain.batch(samples).inputs)
    assert np.array_equal(pooled.batch(samples).targets, plain.batch(samples).targets)
    order = mixture([DatasetConfig(path=paths[1], pool=2).open()], micro_batch=5, batch_size=5)
    drawn_samples = np.concatenate([block.samples for block in order.blocks(0, 1, 0, 14)])
    assert sorted(drawn_samples.tolist()) == samples.tolist()
    trajectories = plain.index(drawn_samples)[:, 0]
    assert sum(len(set(trajectories[i : i + 20].tolist())) for i in range(0, 60, 20)) == 6


def test_a_sweep_meets_every_sample_once_in_order(datasets: list[Dataset]) -> None:
    order = Sweep(datasets, 16)
    found: list[list[int]] = []
    sizes = []
    for batch in Loader(order):
        found += batch.index.tolist()
        sizes.append(len(batch))
    expected = [row for dataset in datasets for row in dataset.index(np.arange(dataset.num_samples)).tolist()]
    assert found == expected
    assert sizes == [16, 16, 8, 16, 16, 16, 16, 6]


@pytest.mark.parametrize("world", [2, 3])
def test_a_sweep_is_dealt_to_ranks(datasets: list[Dataset], world: int) -> None:
    order = Sweep(datasets, 16)
    ranks = [
        [batch.index.tolist() for batch in Loader(order, rank=rank, world=world)] for rank in range(world)
    ]
    whole = [batch.index.tolist() for batch in Loader(order)]
    assert [ranks[number % world][number // world] for number in range(len(whole))] == whole


def test_a_dataset_with_lanes_is_followed_and_asked_for_each_block(
    datasets: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = Lanes(8, 5, 5, lanes=4, ahead=4, first=0, samples_each=2, key=(1,))
    followed: list[tuple[int, list[int]]] = []
    monkeypatch.setattr(datasets[0], "lanes", lambda *_: lanes)
    monkeypatch.setattr(datasets[0], "follow", lambda lane, held, _: followed.append((lane, held.tolist())))
    monkeypatch.setattr(datasets[0], "request", lambda samples: tuple(samples.tolist()))
    blocks = list(mixture(datasets[:1]).blocks(1, 2, 0, 3))
    # Every fifth draw replaces a trajectory: one a block.
    assert followed == [
        (lane, lanes.wanted(lane, step, 2)[0].tolist()) for step in range(3) for lane in (1, 3)
    ]
    expected = [lanes.samples(lane, step).tolist() for step in range(3) for lane in (1, 3)]
    assert [block.samples.tolist() for block in blocks] == expected
    assert [block.request for block in blocks] == [tuple(samples) for samples in expected]


def test_ranks_have_about_as_much_to_do_where_datasets_differ_in_cost(datasets: list[Dataset]) -> None:
    order, world = mixture(datasets, batch_size=160), 4
    assert order.blocks_per_step == 32
    shares, before = [], []
    for step in range(12):
        dealt = [order.numbers(step, rank, world) for rank in range(world)]
        assert sorted(chain.from_iterable(dealt)) == list(range(32 * step, 32 * (step + 1)))
        assert {len(numbers) for numbers in dealt} == {8}
        cost = {n: [64, 16][order.block(n).dataset] for numbers in dealt for n in numbers}
        loads = [sum(cost[n] for n in numbers) for numbers in dealt]
        shares.append(sum(loads) / (world * max(loads)))
        # Dear ones come first, so that ranks which meet after each block wait little.
        assert all(
            [cost[n] for n in numbers] == sorted((cost[n] for n in numbers), reverse=True)
            for numbers in dealt
        )
        robin = [
            sum(cost[n] for n in range(32 * step + rank, 32 * (step + 1), world)) for rank in range(world)
        ]
        before.append(sum(robin) / (world * max(robin)))
    # A step lasts as long as the rank that has most to do.
    assert np.mean(shares) > 0.93
    assert np.mean(before) < 0.85


def test_what_is_dealt_by_cost_is_what_is_read_and_depends_on_the_step_alone(datasets: list[Dataset]) -> None:
    order = mixture(datasets, batch_size=40)
    read = [(b.dataset, b.samples.tolist()) for b in order.blocks(1, 2, 5, 3)]
    again = mixture(datasets, batch_size=40)
    numbers = [n for step in (5, 6, 7) for n in again.numbers(step, 1, 2)]
    assert read == [(again.block(n).dataset, again.block(n).samples.tolist()) for n in numbers]
    assert numbers != [n for step in (5, 6, 7) for n in range(8 * step + 1, 8 * (step + 1), 2)]


def test_datasets_of_one_cost_are_dealt_round_robin(datasets: list[Dataset]) -> None:
    order = mixture(datasets[:1], batch_size=40)
    assert order.numbers(3, 1, 4) == [25, 29]


@pytest.mark.parametrize("pools", [(2, 2), (2, 0)])
def test_a_pool_counts_blocks_stretch_by_stretch_and_from_anywhere(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, pools: tuple[int, int]
) -> None:
    opened = [DatasetConfig(path=path, pool=pool).open() for path, pool in zip(paths, pools, strict=True)]
    whole = [(b.dataset, b.samples.tolist()) for b in mixture(opened).blocks(0, 1, 0, 16)]
    # Two epochs of 22 blocks in stretches of 4.
    monkeypatch.setattr(mixture_module, "_STRETCH", 4)
    assert [(b.dataset, b.samples.tolist()) for b in mixture(opened).blocks(0, 1, 0, 16)] == whole
    assert [(b.dataset, b.samples.tolist()) for b in mixture(opened).blocks(0, 1, 9, 7)] == whole[9 * 4 :]
