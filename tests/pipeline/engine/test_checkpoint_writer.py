"""Writing checkpoints: beside training, whole or not at all, and by all processes together."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
import torch

from pelagos.pipeline.engine import checkpoint, checkpoint_writer, distributed
from pelagos.pipeline.engine.checkpoint_writer import CheckpointWriteError, CheckpointWriter
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.engine.saved_tensors import file_of, whole_share
from pelagos.preprocessing.errors import DamagedFileError, is_temporary

SHARE = whole_share({"weights": {"a": torch.arange(6.0).reshape(2, 3)}, "moments": {"m.a": torch.ones(3)}})


def test_writing_does_not_keep_training_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_write = threading.Event()
    save = checkpoint_writer.save
    monkeypatch.setattr(checkpoint_writer, "save", lambda *given: (may_write.wait(30), save(*given)))
    writer = CheckpointWriter(tmp_path, keep=2)
    writer.save(1, SHARE, {})
    assert checkpoint.latest(tmp_path) is None
    may_write.set()
    writer.wait()
    assert checkpoint.load(checkpoint.path_of(tmp_path, 1))[1]["step"] == 1


@pytest.mark.parametrize("background", [True, False])
def test_a_failure_to_write_reaches_the_run(tmp_path: Path, background: bool) -> None:
    (tmp_path / "occupied").write_text("")
    writer = CheckpointWriter(tmp_path / "occupied", keep=2, background=background)
    with pytest.raises(CheckpointWriteError, match=r"could not be written to .*occupied"), writer:
        writer.save(1, SHARE, {})


def save_for_ever(folder: str) -> None:
    big = whole_share({"weights": {"a": torch.zeros(500_000)}})
    writer = CheckpointWriter(Path(folder), keep=2)
    newest = checkpoint.latest(Path(folder))
    start = 0 if newest is None else checkpoint.load(newest)[1]["step"]
    for step in range(start, 10**6):
        writer.save(step, big, {})


def test_a_kill_at_any_moment_leaves_a_loadable_checkpoint(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    moments = random.Random(0)
    reached = -1
    for _ in range(2):
        process = context.Process(target=save_for_ever, args=(str(tmp_path),))
        process.start()
        before = checkpoint.latest(tmp_path)
        while checkpoint.latest(tmp_path) == before:
            assert process.is_alive()
            time.sleep(0.01)
        time.sleep(moments.uniform(0.05, 0.4))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        newest = checkpoint.newest_intact(tmp_path, previous=False)
        assert newest is not None
        step = checkpoint.load(newest)[1]["step"]
        assert step > reached
        reached = step


def test_a_save_that_fails_leaves_nothing_and_the_next_may_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_writer, "save_file", full)
        with (
            pytest.raises(CheckpointWriteError) as caught,
            CheckpointWriter(tmp_path, 2) as writer,
        ):
            writer.save(3, SHARE, {})
    assert is_temporary(caught.value)
    assert list(tmp_path.iterdir()) == []
    checkpoint_writer.save(tmp_path, 3, SHARE, {})
    assert checkpoint.latest(tmp_path) == tmp_path / "step-00000003"


def test_all_files_of_a_checkpoint_may_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        checkpoint_writer.save(tmp_path, 1, SHARE, {})
    finally:
        os.umask(before)
    path = checkpoint.path_of(tmp_path, 1)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}


def write_together(folder: str) -> None:
    """Two checkpoints of four processes, and one that cannot be written by one of them."""
    distributed.start()
    rank, found = distributed.rank(), dict[str, object]()
    torch.manual_seed(0)
    network = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(4)))
    engine = EngineConfig(zero_stage=2).build(network, torch.optim.AdamW(network.parameters()), 1, 1)
    share_bytes = 4 * len(ADAM_GROUPS) * sum(partition.numel() for partition in engine.partitions)
    with contextlib.suppress(CheckpointWriteError), CheckpointWriter(Path(folder), keep=2) as writer:
        for step in (1, 2, 3):
            before = anonymous_memory()
            with peak_of(anonymous_memory) as peak:
                shares = {**engine.shares(), "average": {"": engine.shards.share(engine.partitions)}}
                share = engine.saved(shares, {}, copied=True)
                if (step, rank) == (3, 2):
                    Path(folder, ".step-00000003.partial", file_of(2)).mkdir(parents=True)
                writer.save(step, share, {"step": step})
                try:
                    writer.wait()
                except CheckpointWriteError as error:
                    found["error"] = str(error)
                distributed.barrier()
            found[str(step)] = [peak[0] - before, share_bytes]
            del share
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    distributed.stop()


ADAM_GROUPS = ("weights", "average", "exp_avg", "exp_avg_sq")


def anonymous_memory() -> int:
    """Bytes of memory that is this process's own, without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextlib.contextmanager
def peak_of(measure: Callable[[], int]) -> Iterator[list[int]]:
    """The largest value of a measurement while the context lasts."""
    peak, ended = [measure()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.0005):
            peak[0] = max(peak[0], measure())

    thread = threading.Thread(target=watch)
    thread.start()
    yield peak
    ended.set()
    thread.join()
    peak[0] = max(peak[0], measure())


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    processes.run(Path(__file__), "write_together", 4, {"folder": str(folder)})
    return folder


def told(folder: Path, rank: int) -> dict[str, Any]:
    return dict(json.loads((folder / f"{rank}.json").read_text()))


def test_each_process_writes_its_own_file_and_rank_0_the_map(together: Path) -> None:
    path = checkpoint.path_of(together, 2)
    assert checkpoint.newest_intact(together, previous=False) == path
    assert sorted(file.name for file in path.iterdir()) == [*map(file_of, range(4)), "state.json"]
    sizes = [(path / file_of(rank)).stat().st_size for rank in range(4)]
    assert max(sizes) < 1.01 * min(sizes)


@pytest.mark.parametrize("rank", range(4))
def test_a_checkpoint_takes_no_more_memory_than_a_share_and_one_piece(together: Path, rank: int) -> None:
    # The first: later ones find memory that it has freed.
    grown, share = told(together, rank)["1"]
    piece = 4 * 1024 * 1024
    assert grown <= share + piece
    # Not by chance: the copies are there.
    assert grown > share / 2


def test_what_one_process_cannot_write_is_no_checkpoint_on_any(together: Path) -> None:
    assert "Is a directory" in told(together, 2)["error"]
    assert told(together, 0)["error"].startswith("a checkpoint could not be written")
    assert "rank 2: " in told(together, 0)["error"]
    assert "error" not in told(together, 1)
    assert not list(together.glob("*step-00000003*"))


def test_a_changed_byte_in_any_file_is_found(together: Path, tmp_path: Path) -> None:
    for name in [*map(file_of, range(4)), "state.json"]:
        copy = tmp_path / name / "step-00000002"
        shutil.copytree(checkpoint.path_of(together, 2), copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(DamagedFileError):
            checkpoint.verify_checksums(copy)
