import os
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DamagedFileError
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture, MixtureConfig, Sweep
from pelagos.preprocessing.samples.permutation import GroupedPermutation, Permutation
from pelagos.preprocessing.samples.sample_index import PairSampling, SampleFrames


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("stores")
    sources = [{}, {"trajectories": 9, "size": 4, "names": ["density", "velocity_x"], "sea": 1}]
    return [
        build(configuration(root, source, version=str(n), missing="keep")) for n, source in enumerate(sources)
    ]


@pytest.fixture(scope="module")
def datasets(paths: list[Path]) -> list[Dataset]:
    """40 samples of 8 x 8 points and 70 of 4 x 4."""
    return [DatasetConfig(path=path).open() for path in paths]


def mixture(datasets: list[Dataset], **options: object) -> Mixture:
    return Mixture(datasets, **({"batch_size": 20, "micro_batch": 5, "seed": 3} | options))  # type: ignore[arg-type]


def drawn(order: Mixture, steps: range, world: int = 1) -> list[Counter[tuple[int, int]]]:
    """The samples of each global batch, over all ranks."""
    found = []
    for step in steps:
        blocks = [block for rank in range(world) for block in order.blocks(rank, world, step, 1)]
        assert len(blocks) == order.blocks_per_step
        found.append(Counter((block.dataset, int(sample)) for block in blocks for sample in block.samples))
    return found


# ---------------------------------------------------------------- the order


@pytest.mark.parametrize("num", [1, 2, 3, 7, 64, 65, 1000])
def test_a_permutation_meets_everything_once(num: int) -> None:
    assert sorted(Permutation(num, (1, 2))(np.arange(num)).tolist()) == list(range(num))


def test_permutations_of_different_keys_differ_and_of_one_agree() -> None:
    positions = np.arange(500)
    one, same, other = (Permutation(500, key)(positions) for key in [(1, 0), (1, 0), (1, 1)])
    assert np.array_equal(one, same)
    assert (one == other).sum() < 20


def test_permutations_look_random() -> None:
    num = 1000
    orders = np.stack([Permutation(num, (0, epoch))(np.arange(num)) for epoch in range(200)])
    # Neighbours, first places and positions are not correlated: within 5 standard errors of chance.
    for a, b in [
        (orders[:, :-1], orders[:, 1:]),
        (orders[:-1], orders[1:]),
        (orders, np.tile(np.arange(num), (200, 1))),
    ]:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 / np.sqrt(a.size)
    halves = Counter((orders[:, 0] < num // 2).tolist())
    assert abs(halves[True] - 100) < 5 * np.sqrt(50)
    bits = (orders[:, :, None] >> np.arange(9) & 1).mean(axis=(0, 1))
    assert bits == pytest.approx(0.5, abs=0.02)


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


# ---------------------------------------------------------------- the loader


@pytest.mark.parametrize(("threads", "depth"), [(1, 2), (2, 4), (4, 3)])
def test_batches_are_the_samples_of_the_order(datasets: list[Dataset], threads: int, depth: int) -> None:
    order = mixture(datasets)
    blocks = list(order.blocks(1, 2, 5, 30))
    num = 0
    loader = Loader(order, rank=1, world=2, start_step=5, num_steps=30, threads=threads, depth=depth)
    for block, batch in zip(blocks, loader, strict=True):
        expected = order.datasets[block.dataset].batch(block.samples)
        assert batch.layout is expected.layout
        assert np.array_equal(batch.index, expected.index)
        assert np.array_equal(batch.inputs, expected.inputs)
        assert np.array_equal(batch.targets, expected.targets)
        assert np.array_equal(batch.mask, expected.mask)
        num += 1
    assert num == 60


def test_a_batch_stays_as_it_is_until_the_next_is_asked_for(datasets: list[Dataset]) -> None:
    batches = iter(Loader(mixture(datasets), depth=2, threads=2))
    for _ in range(20):
        batch = next(batches)
        before = batch.inputs.clone()
        threading.Event().wait(0.002)
        assert np.array_equal(batch.inputs, before)
    batches.close()


def test_memory_is_used_again(datasets: list[Dataset]) -> None:
    loader = Loader(mixture(datasets[:1]), num_steps=20, depth=3)
    assert len({batch.inputs.data_ptr() for batch in loader}) <= 3


def test_threads_end_when_the_consumer_stops(datasets: list[Dataset]) -> None:
    before = threading.active_count()
    for number, _ in enumerate(Loader(mixture(datasets), threads=3)):
        assert threading.active_count() == before + 3
        if number == 4:
            break
    assert threading.active_count() == before


def test_a_loader_can_be_iterated_again(datasets: list[Dataset]) -> None:
    loader = Loader(mixture(datasets), num_steps=3)
    first, second = ([batch.index.tolist() for batch in loader] for _ in range(2))
    assert first == second


def test_an_error_reaches_the_consumer_in_its_turn(tmp_path: Path) -> None:
    path = build(configuration(tmp_path))
    dataset = DatasetConfig(path=path).open()
    (path / "state/c/2/0/0/0/0").unlink()
    before = threading.active_count()
    order = Sweep([dataset], 5)
    seen: list[int] = []

    def consume() -> None:
        for batch in Loader(order):
            seen.extend(batch.index[:, 0].tolist())

    with pytest.raises(DamagedFileError, match="state/c/2/0/0/0/0: the shard is missing"):
        consume()
    assert seen == [0] * 10 + [1] * 10
    assert threading.active_count() == before


def test_blocks_are_announced_where_reading_waits_and_damage_is_told_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build(configuration(tmp_path))
    dataset = DatasetConfig(path=path).open()
    (path / "state/c/2/0/0/0/0").unlink()
    announced: list[tuple[int, int]] = []
    announce, read = dataset.announce, dataset.read

    def noted(frames: SampleFrames) -> None:
        announced.extend(frames.positions())
        announce(frames)

    def slow(*args: object, **options: object) -> None:
        threading.Event().wait(0.01)  # as a disk would
        read(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "announce", noted)
    monkeypatch.setattr(dataset, "read", slow)
    batches = iter(Loader(Sweep([dataset], 5), threads=1))
    seen = [sample for _ in range(4) for sample in next(batches).index[:, 0].tolist()]
    with pytest.raises(DamagedFileError, match="state/c/2/0/0/0/0: the shard is missing"):
        next(batches)
    assert seen == [0] * 10 + [1] * 10
    assert announced[:20] == list(dataset.frames_of(np.arange(5, 15)).positions())


def test_what_cannot_be_announced_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = DatasetConfig(path=build(configuration(tmp_path))).open()

    def fail(frames: SampleFrames) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(dataset, "announce", fail)
    assert sum(len(batch) for batch in Loader(Sweep([dataset], 5))) == dataset.num_samples


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be told")
@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
def test_frames_that_were_announced_come_into_memory(tmp_path: Path, codec: str) -> None:
    path = build(configuration(tmp_path, codec=codec))
    dataset = DatasetConfig(path=path).open()
    descriptor = os.open(path / "state/c/0/0/0/0/0", os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    dataset.announce(dataset.frames_of(np.arange(5)))
    content = bytearray(os.fstat(descriptor).st_size // 2)
    for _ in range(500):
        with suppress(BlockingIOError):
            if os.preadv(descriptor, [content], 0, os.RWF_NOWAIT) == len(content):
                break
        threading.Event().wait(0.01)
    else:
        pytest.fail("the frames were never read")
    os.close(descriptor)


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


def test_a_curriculum_lengthens_rollouts_at_the_said_steps(paths: list[Path]) -> None:
    sampling = {"kind": "rollouts", "steps": 3, "curriculum": [[0, 1], [2, 2], [5, 3]]}
    order = mixture([DatasetConfig(path=paths[0], sampling=sampling).open()], batch_size=4, micro_batch=2)
    lengths = [batch.targets.shape[1] for batch in Loader(order, num_steps=7)]
    assert lengths == [1] * 4 + [2] * 6 + [3] * 4
    # A run that begins in the middle goes on alike, on any number of ranks.
    rest = [
        [
            (batch.index.tolist(), batch.targets.clone())
            for batch in Loader(order, rank=r, world=2, start_step=4, num_steps=3)
        ]
        for r in range(2)
    ]
    whole = [(batch.index.tolist(), batch.targets.clone()) for batch in Loader(order, num_steps=7)]
    for number, (index, targets) in enumerate(whole[8:]):
        found, values = rest[number % 2][number // 2]
        assert found == index
        assert np.array_equal(values, targets)


# ---------------------------------------------------------------- processes and pools


@pytest.mark.parametrize(("kind", "largest"), [("pairs", 1 << 20), ("rollouts", 1 << 20), ("pairs", 200)])
def test_processes_fill_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, largest: int
) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.partition._CHUNK", largest)  # a channel takes 256 bytes
    source = {"names": ["velocity_x", "heating"], "static": "varying", "scalars": True, "sea": 1}
    path = build(configuration(tmp_path, source, codec="blosc-lz4", missing="keep"))
    sampling = {"kind": "rollouts", "steps": 2} if kind == "rollouts" else {"kind": "pairs"}
    dataset = DatasetConfig.model_validate({"path": path, "sampling": sampling}).open()
    found, expected = (
        [
            [
                getattr(batch, name).numpy().copy()
                for name in ("inputs", "targets", "mask", "forcings", "lead_time")
            ]
            for batch in Loader(mixture([dataset]), num_steps=2, processes=processes, depth=3)
        ]
        for processes in (True, False)
    )
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("processes", [True, False])
def test_a_device_normalises_to_the_same_bits_as_readers(
    tmp_path: Path, processes: bool, missing: bool
) -> None:
    source = {"names": ["velocity_x", "heating"], "static": "varying", "scalars": True, "sea": int(missing)}
    path = build(configuration(tmp_path, source, missing="keep"))
    sampling = {"kind": "rollouts", "steps": 3, "curriculum": [[0, 2], [1, 3]]}
    order = mixture([DatasetConfig.model_validate({"path": path, "sampling": sampling}).open()])
    by_readers = Loader(order, num_steps=2)
    by_device = Loader(order, num_steps=2, scaled=False, processes=processes)
    for expected, raw in zip(by_readers, by_device, strict=True):
        before = raw.inputs.clone()
        batch = raw.to("cpu")
        for name in ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index"):
            assert torch.equal(getattr(batch, name), getattr(expected, name)), name
        assert batch.mask.all() != missing
        # What is in the ring stays in physical units, so that it can be asked for again.
        assert torch.equal(raw.inputs.nan_to_num(), before.nan_to_num())
        assert torch.equal(raw.to("cpu").inputs, batch.inputs)
        assert batch.to("cpu").inputs is batch.inputs


def test_an_error_of_a_process_reaches_the_consumer(tmp_path: Path) -> None:
    path = build(configuration(tmp_path))
    (path / "state/c/0/0/0/0/0").unlink()
    loader = Loader(Sweep([DatasetConfig(path=path).open()], 5), threads=1, processes=True)
    with pytest.raises(DamagedFileError, match="state/c/0/0/0/0/0: the shard is missing"):
        next(iter(loader))


def test_groups_of_runs_are_met_one_after_the_other() -> None:
    ends = np.cumsum([3, 0, 5, 2, 7, 1, 4])
    order = GroupedPermutation(ends, 2, (5,))(np.arange(22))
    assert sorted(order.tolist()) == list(range(22))
    runs = np.searchsorted(ends, order, side="right")
    # A run's members lie within those of one other run at most.
    for run in np.unique(runs):
        first, last = np.flatnonzero(runs == run)[[0, -1]]
        assert len(set(runs[first : last + 1].tolist())) <= 2
    assert order.tolist() != GroupedPermutation(ends, 2, (6,))(np.arange(22)).tolist()


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


def test_a_trajectory_that_spans_shards_has_no_pool(tmp_path: Path) -> None:
    path = build(configuration(tmp_path, {"times": 9}, shard_bytes=1024))
    with pytest.raises(ConfigError, match=r"pool: a trajectory of .* spans several shards"):
        DatasetConfig(path=path, pool=2).open()
