"""The loader: the batches of an order, read ahead into memory that is used again."""

import os
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from analytic_source import configuration
from two_stores import build_stores, mixture

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DamagedFileError
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Sweep
from pelagos.preprocessing.samples.sample_index import SampleFrames


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture(scope="module")
def datasets(paths: list[Path]) -> list[Dataset]:
    """40 samples of 8 x 8 points and 70 of 4 x 4."""
    return [DatasetConfig(path=path).open() for path in paths]


@pytest.mark.parametrize(("threads", "depth"), [(1, 2), (2, 4), (4, 3)])
def test_batches_are_the_samples_of_the_order(datasets: list[Dataset], threads: int, depth: int) -> None:
    order = mixture(datasets)
    blocks = list(order.blocks(1, 2, 5, 30))
    num = 0
    loader = Loader(order, rank=1, world=2, start_step=5, num_steps=30, threads=threads, depth=depth)
    for block, batch in zip(blocks, loader, strict=True):
        expected = order.datasets[block.dataset].batch(block.samples, key=block.key)
        assert isinstance(batch, Batch)
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


def test_a_loader_names_the_dataset_that_it_waits_for(datasets: list[Dataset]) -> None:
    loader = Loader(mixture(datasets), num_steps=20, depth=2)
    assert loader.awaited() == ""
    for batch in loader:
        assert loader.awaited() == f"dataset {batch.layout.dataset}"
    assert loader.awaited() == ""


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


@pytest.mark.parametrize(
    ("processes", "missing", "dtype"),
    [
        (True, True, "float32"),
        (False, True, "float32"),
        (False, False, "float32"),
        (True, False, "float16"),
        (False, True, "float16"),
    ],
)
def test_a_device_normalises_to_the_same_bits_as_readers(
    tmp_path: Path, processes: bool, missing: bool, dtype: str
) -> None:
    source = {"names": ["velocity_x", "heating"], "static": "varying", "scalars": True, "sea": int(missing)}
    path = build(configuration(tmp_path, source, missing="keep", dtype=dtype))
    sampling = {"kind": "rollouts", "steps": 3, "curriculum": [[0, 2], [1, 3]]}
    options = {
        "path": path,
        "sampling": sampling,
        "history": (1,) if processes else (),
        "augment": {"auto": dtype == "float32"},  # which would need values, not their coding
    }
    order = mixture([DatasetConfig.model_validate(options).open()])
    by_readers = Loader(order, num_steps=2)
    by_device = Loader(order, num_steps=2, scaled=False, processes=processes)
    for expected, raw in zip(by_readers, by_device, strict=True):
        assert raw.inputs.dtype == raw.targets.dtype == getattr(torch, dtype)
        before = raw.inputs.clone()
        batch = raw.to("cpu")
        for name in ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index"):
            assert torch.equal(getattr(batch, name), getattr(expected, name)), name
        assert batch.mask.all() != missing
        # What is in the ring stays in physical units, so that it can be asked for again.
        assert torch.equal(raw.inputs.nan_to_num(), before.nan_to_num())
        assert torch.equal(raw.to("cpu").inputs, batch.inputs)
        assert batch.to("cpu").inputs is batch.inputs


def test_a_trajectory_that_spans_shards_has_no_pool(tmp_path: Path) -> None:
    path = build(configuration(tmp_path, {"times": 9}, shard_bytes=1024))
    with pytest.raises(ConfigError, match=r"pool: a trajectory of .* spans several shards"):
        DatasetConfig(path=path, pool=2).open()
