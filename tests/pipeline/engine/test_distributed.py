"""Processes find their place, and what they exchange arrives."""

import json
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
import torch

from pelagos.pipeline.engine import distributed
from pelagos.preprocessing.errors import PelagosError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "MASTER_ADDR")


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (5, 8, 1)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "2", "MASTER_ADDR": "node"}, (3, 4, 2)),
        # A batch script has SLURM's variables, too, but its one process meets nobody.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, (0, 1, 0)),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "9", "MASTER_ADDR": "n"},
            (1, 2, 0),
        ),
    ],
)
def test_a_process_takes_its_place_from_its_launcher(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], place: tuple[int, int, int]
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (distributed.rank(), distributed.world(), distributed.local_rank()) == place


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Whether there is a GPU is found out again, before and after."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", *NAMES):
        monkeypatch.delenv(name, raising=False)
    distributed.has_gpu.cache_clear()
    yield monkeypatch
    distributed.has_gpu.cache_clear()


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"])
def test_gpus_that_torch_cannot_use_are_no_silent_run_on_the_cpu(
    asked_anew: pytest.MonkeyPatch, name: str
) -> None:
    asked_anew.setattr(torch.cuda, "is_available", lambda: False)
    asked_anew.setenv(name, "1")
    with pytest.raises(PelagosError, match=f"was given GPUs \\({name}=1\\), but torch"):
        distributed.device()


def test_a_user_may_ask_for_the_cpu_where_a_job_has_gpus(asked_anew: pytest.MonkeyPatch) -> None:
    asked_anew.setattr(torch.cuda, "is_available", lambda: False)
    asked_anew.setenv("SLURM_JOB_GPUS", "0,1")
    asked_anew.setenv("CUDA_VISIBLE_DEVICES", "")
    assert distributed.device() == torch.device("cpu")


@pytest.mark.parametrize(("visible", "rank", "number"), [(4, 3, 3), (1, 3, 0)])
def test_a_process_takes_its_gpu_or_the_only_one_that_it_sees(
    asked_anew: pytest.MonkeyPatch, visible: int, rank: int, number: int
) -> None:
    asked_anew.setattr(torch.cuda, "is_available", lambda: True)
    asked_anew.setattr(torch.cuda, "device_count", lambda: visible)
    asked_anew.setenv("LOCAL_RANK", str(rank))
    assert distributed.device() == torch.device("cuda", number)


def test_more_processes_than_gpus_are_refused(asked_anew: pytest.MonkeyPatch) -> None:
    asked_anew.setattr(torch.cuda, "is_available", lambda: True)
    asked_anew.setattr(torch.cuda, "device_count", lambda: 2)
    asked_anew.setenv("LOCAL_RANK", "2")
    with pytest.raises(PelagosError, match="process 2 of this machine has no GPU: 2 are visible"):
        distributed.device()


def test_one_process_needs_no_peers() -> None:
    assert distributed.broadcast_text("models:/été/1") == "models:/été/1"
    assert distributed.broadcast_text("") == ""
    assert distributed.all_sum([1.5, -2.0]) == [1.5, -2.0]
    assert distributed.broadcast(7) == 7
    part = torch.arange(3.0)
    assert distributed.all_gather(part)[0] is part
    with distributed.fail_together():
        pass


def exchange(folder: str) -> None:
    """What each process gets of the others."""
    distributed.start()
    rank = distributed.rank()
    tensors = [torch.full((2,), float(rank)), torch.full((1,), 10.0 * rank)]
    # Begun together, and each waited for.
    for wait in [distributed.reduced(tensor) for tensor in tensors]:
        wait()
    own = torch.tensor([rank, rank * rank])
    found = {
        "sum": distributed.all_sum([1.0, float(rank)]),
        "sums": [tensor.tolist() for tensor in tensors],
        "root": distributed.broadcast(40 + rank),
        "gathered": [part.tolist() for part in distributed.all_gather(own)],
    }
    try:
        with distributed.fail_together():
            if rank == 1:
                raise ValueError("rank 1 alone")
    except (ValueError, distributed.PeerError) as error:
        found["error"] = f"{type(error).__name__}: {error}"
    Path(folder, str(rank)).write_text(json.dumps(found))
    distributed.stop()


def test_three_processes_exchange_values_and_fail_together(tmp_path: Path) -> None:
    processes.run(Path(__file__), "exchange", 3, {"folder": str(tmp_path)})
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    for values in found:
        assert values["sum"] == [3.0, 3.0]
        assert values["sums"] == [[3.0, 3.0], [30.0]]
        assert values["root"] == 40
        assert values["gathered"] == [[0, 0], [1, 1], [2, 4]]
    errors = [values["error"].split(":")[0] for values in found]
    assert errors == ["PeerError", "ValueError", "PeerError"]
