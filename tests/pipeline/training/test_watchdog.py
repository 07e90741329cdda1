"""A process that stands still is noticed and named."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import processes
import pytest

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.training.watchdog import Watchdog


def dog(monkeypatch: pytest.MonkeyPatch, rank: int, world: int = 3) -> Watchdog:
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world", lambda: world)
    return Watchdog(10.0)


def heard(watcher: Watchdog, marks: list[int], *, silent: tuple[int, ...] = ()) -> Watchdog:
    """Signs of life for a minute, all of which say the same; the silent give one."""
    for beat in range(61):
        for rank, number in enumerate(marks):
            if beat == 0 or rank not in silent:
                watcher.hear(rank, beat, number, f"does {number}", 100.0 + beat)
    return watcher


def test_the_process_that_is_behind_is_named_by_the_first_that_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdicts = [heard(dog(monkeypatch, rank), [7, 6, 7]).verdict(160.0) for rank in range(3)]
    assert verdicts == ["rank 1 stands still: it does 6", "", ""]
    verdicts = [heard(dog(monkeypatch, rank), [5, 7, 7]).verdict(160.0) for rank in range(3)]
    assert verdicts == ["", "rank 0 stands still: it does 5", ""]


def test_a_process_without_a_sign_of_life_is_named_even_if_it_is_not_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = heard(dog(monkeypatch, 0), [7, 7, 7], silent=(2,))
    assert watcher.verdict(160.0) == "rank 2 gives no sign of life; when last heard it does 7"


def test_slow_progress_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = heard(dog(monkeypatch, 0), [7, 6, 7])
    assert watcher.verdict(105.0) == ""
    watcher.hear(1, 61, 7, "does 7", 161.0)
    assert watcher.verdict(165.0) == ""
    assert watcher.verdict(175.0) == "all processes stand still: rank 0 does 7"


def program(folder: str) -> None:
    """Steps that all processes do together, until they are killed."""
    from pelagos.pipeline.training.watchdog import watchdog

    distributed.start()
    rank = distributed.rank()
    with watchdog(1.0) as mine:
        for step in range(10**6):
            mine.mark(step, "computes")
            Path(folder, str(rank)).write_text(str(step))
            time.sleep(0.02)
            distributed.all_sum([1.0])


def test_a_frozen_process_is_named_by_another(tmp_path: Path) -> None:
    team = processes.Team(Path(__file__), "program", 2, {"folder": str(tmp_path)})
    output: Any = team._output
    try:
        while not (tmp_path / "1").is_file() or int((tmp_path / "1").read_text() or 0) < 60:
            assert team.alive
            time.sleep(0.05)
        pid = team.members[1].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while "WARNING" not in output.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "rank 1 gives no sign of life; when last heard it computes at step" in output.read_text()
    finally:
        team.kill()


def test_a_single_process_that_waits_for_its_reader_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from pelagos.pipeline.training.watchdog import watchdog

    monkeypatch.setattr(distributed, "world", lambda: 1)
    with watchdog(0.1) as mine:
        mine.mark(3, "reads data", lambda: "dataset waves")
        time.sleep(0.5)
    told = capfd.readouterr().err
    assert told.count("training stands still: it reads data (dataset waves) at step 3 on") == 1


class CountingStore(dict[str, bytes]):
    """A store that counts what it is asked."""

    requests = 0

    def set(self, key: str, value: str) -> None:
        self.requests += 1
        self[key] = value.encode()

    def get(self, key: str) -> bytes:  # type: ignore[override]
        self.requests += 1
        return self[key]

    def check(self, keys: list[str]) -> bool:
        self.requests += 1
        return all(key in self for key in keys)

    def delete_key(self, key: str) -> bool:
        self.requests += 1
        return self.pop(key, None) is not None


def test_heartbeats_ask_a_store_in_proportion_to_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = {}
    for world in (8, 64):
        store, dogs = CountingStore(), [dog(monkeypatch, rank, world) for rank in range(world)]
        for _ in range(3):
            for one in dogs:
                one._exchange(store)
        assert all(peer.beat == 3 for peer in dogs[0]._seen[:1])
        assert all(peer.beat >= 1 for one in dogs for peer in one._seen)
        requests[world] = store.requests
    assert requests[64] <= 8 * requests[8]


def test_the_next_process_gathers_when_the_first_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    store, dogs = CountingStore(), [dog(monkeypatch, rank, 3) for rank in range(3)]
    for now in range(60):
        for one in dogs[now > 5 :]:
            one._exchange(store)  # rank 0 falls silent after five seconds
    assert [dogs[2]._seen[rank].heard_at > 50 for rank in range(3)] == [False, True, True]
    assert "rank 0 gives no sign of life" in dogs[1].verdict(59.0)
    assert dogs[2].verdict(59.0) == ""
