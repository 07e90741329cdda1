"""The ledger: which samples made which step."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pelagos.pipeline.training.ledger import Ledger, read_ledger


def batch(*trajectories: int) -> Any:
    index = torch.tensor([[trajectory, 0, 1] for trajectory in trajectories])
    return SimpleNamespace(layout=SimpleNamespace(dataset="waves"), index=index)


def test_the_records_of_all_processes_come_back_in_order(tmp_path: Path) -> None:
    for rank in (1, 0):
        ledger = Ledger(tmp_path / f"rank-{rank}.jsonl", active=True)
        for step in (1, 2):
            ledger.record(step, [(2 * (step - 1) + rank, batch(10 * step + rank))])
    blocks = read_ledger(tmp_path)
    assert list(blocks) == [0, 1, 2, 3]
    assert [block["index"][0][0] for block in blocks.values()] == [10, 11, 20, 21]
    assert blocks[3] == {"step": 2, "block": 3, "dataset": "waves", "index": [[21, 0, 1]]}


def test_a_repeated_step_counts_once_if_its_samples_are_the_same(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "rank-0.jsonl", active=True)
    for _ in range(2):
        ledger.record(1, [(0, batch(4, 5))])
    assert len(read_ledger(tmp_path)) == 1
    ledger.record(1, [(0, batch(4, 6))])
    with pytest.raises(ValueError, match="block 0 was drawn twice, differently"):
        read_ledger(tmp_path)


def test_without_a_ledger_there_is_no_file(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger" / "rank-0.jsonl", active=False).record(1, [(0, batch(1))])
    assert not (tmp_path / "ledger").exists()
