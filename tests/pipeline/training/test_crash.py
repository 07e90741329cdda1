"""Pretraining under fire: SIGKILL at random moments of its life, many times over."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
from processes import Team

from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.training.ledger import read_ledger

STEPS, KILLS = 250, 24
pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a configuration with many steps, each of which is kept."""
    path = tmp_path_factory.mktemp("crash")
    small_runs.prepare(path, STEPS)
    return path


def torment(run: Path, start: Callable[[], Team]) -> None:
    """Start a run again and again, and kill all its processes at a random moment of each life.

    One life in four may end before the first step; the others end within a moment of their first to sixth
    step, and since every step is kept, mostly in the middle of writing.
    """
    moments, torn, furthest = random.Random(1), 0, -1
    for kill in range(KILLS):
        team, begun, before = start(), time.monotonic(), small_runs.reached(run)
        if moments.random() < 0.25:
            deadline = begun + moments.uniform(0, 1.2)
        else:
            last = before + moments.randint(1, 6)
            while small_runs.reached(run) < last:
                assert team.alive, team.join()
                time.sleep(0.002)
            deadline = time.monotonic() + moments.uniform(0, 0.05)
        time.sleep(max(0, deadline - time.monotonic()))
        assert team.alive, "the run ended before it was killed often enough"
        team.kill()
        torn += any((run / "checkpoints").glob(".step-*.partial"))
        newest = checkpoint.latest(run / "checkpoints")
        if newest is not None:
            checkpoint.verify_checksums(newest)
        assert small_runs.reached(run) >= furthest
        furthest = small_runs.reached(run)
        print(f"kill {kill + 1}: step {furthest}, {torn} in the middle of writing or deleting")
    assert torn > 0


def test_the_same_layout_ends_with_the_same_weights_to_the_last_bit(folder: Path) -> None:
    wanted = small_runs.weights(small_runs.finish(folder, "undisturbed-pair", 2, "loop.log_every=50"))
    torment(folder / "killed", lambda: small_runs.start(folder, "killed", 2, "loop.log_every=50"))
    found = small_runs.weights(small_runs.finish(folder, "killed", 2, "loop.log_every=50"))
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_other_numbers_of_processes_and_zero_stages_end_with_the_same_weights(folder: Path) -> None:
    wanted = small_runs.finish(folder, "undisturbed", 1, "loop.log_every=50")
    layouts = random.Random(2)

    def start() -> Team:
        stage = f"engine.zero_stage={layouts.randrange(4)}"
        return small_runs.start(folder, "changed", layouts.randint(1, 4), stage, "loop.log_every=50")

    torment(folder / "changed", start)
    found = small_runs.finish(folder, "changed", 1, "loop.log_every=50")
    ledger = read_ledger(found / "ledger")
    assert list(ledger) == list(range(STEPS * small_runs.BATCH))
    assert ledger == read_ledger(wanted / "ledger")
    # Sums in another order, amplified by 250 steps of AdamW.
    steps = sorted(small_runs.losses(wanted))
    np.testing.assert_allclose(
        [small_runs.losses(found)[step] for step in steps],
        [small_runs.losses(wanted)[step] for step in steps],
        rtol=2e-2,
    )
    for name, tensor in small_runs.weights(wanted).items():
        torch.testing.assert_close(small_runs.weights(found)[name], tensor, rtol=2e-2, atol=2e-3)
