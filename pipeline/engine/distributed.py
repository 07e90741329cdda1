"""Rank, world, barriers and sums over processes: the only user of torch.distributed."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from pelagos.preprocessing.errors import PelagosError

_GIVEN_GPUS = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
"""Variables in which a user or a scheduler says which GPUs a process has."""
_NO_GPUS = ("", "-1", "NoDevFiles")


class PeerError(PelagosError, RuntimeError):
    """Another process has failed; it reports why."""


class KeyValueStore(Protocol):
    """Where processes leave messages for each other: the rendezvous store of torch.distributed."""

    def set(self, key: str, value: str) -> None:
        """Leave a message."""

    def get(self, key: str) -> bytes:
        """The message under a key."""
        ...

    def check(self, keys: list[str]) -> bool:
        """Whether all of these keys have messages."""
        ...

    def delete_key(self, key: str) -> bool:
        """Remove a message; returns whether there was one."""
        ...


def rank() -> int:
    """This process's number among all of them; 0 without a launcher."""
    return int(_environment("RANK", "SLURM_PROCID", "0"))


def world() -> int:
    """The number of processes; 1 without a launcher."""
    return int(_environment("WORLD_SIZE", "SLURM_NTASKS", "1"))


def local_rank() -> int:
    """This process's number on its machine."""
    return int(_environment("LOCAL_RANK", "SLURM_LOCALID", "0"))


def _environment(torchrun: str, slurm: str, default: str) -> str:
    """Torchrun's variable; srun's in a step that has a rendezvous address; otherwise the default."""
    if torchrun in os.environ:
        return os.environ[torchrun]
    # SLURM sets its variables in a batch script too, where one process runs alone. Only MASTER_ADDR, which slurm/env.sh
    # exports for srun, says that processes are meant to meet.
    return os.environ.get(slurm, default) if "MASTER_ADDR" in os.environ else default


def start(timeout_minutes: float = 30.0) -> None:
    """Join the process group, by NCCL with GPUs and gloo without; a single process needs no launcher."""
    if dist.is_initialized():
        return
    if has_gpu():
        torch.cuda.set_device(device())
    # DeepSpeed reads torchrun's variables, under srun as well.
    for name, value in (("RANK", rank()), ("WORLD_SIZE", world()), ("LOCAL_RANK", local_rank())):
        os.environ.setdefault(name, str(value))
    if "MASTER_ADDR" not in os.environ:
        # A store in memory: no port is opened, which another run on this machine might have.
        dist.init_process_group(
            _backend(), store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1
        )
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
        return
    # With its device NCCL makes one communicator for all; without, each pair that sends to each other makes its own.
    bound = device() if has_gpu() else None
    dist.init_process_group(_backend(), timeout=timedelta(minutes=timeout_minutes), device_id=bound)


def _backend() -> str:
    return "nccl" if has_gpu() else "gloo"


@cache
def has_gpu() -> bool:
    """Whether this process has a GPU.

    Raises:
        PelagosError: it was given one that torch cannot use.
    """
    # Cached, since torch asks the driver each time, which takes a millisecond.
    if torch.cuda.is_available():
        return True
    # The first one that is set decides: with CUDA_VISIBLE_DEVICES= a user asks for the CPU in a job that has GPUs.
    given = next(((name, os.environ[name]) for name in _GIVEN_GPUS if name in os.environ), None)
    if given and given[1].strip() not in _NO_GPUS:
        # A run on the CPU instead would be a hundred times slower, and nobody would be told.
        raise PelagosError(
            f"this process was given GPUs ({given[0]}={given[1]}), but torch {torch.__version__} can use none: is the "
            "driver loaded (nvidia-smi), and is this torch built for CUDA? CUDA_VISIBLE_DEVICES= trains on the CPU"
        )
    return False


def device() -> torch.device:
    """The device of this process.

    Raises:
        PelagosError: this machine has more processes than visible GPUs.
    """
    if not has_gpu():
        return torch.device("cpu")
    count, number = torch.cuda.device_count(), local_rank()
    if count == 1:
        return torch.device("cuda", 0)  # as with --gpus-per-task=1: each process sees its own alone
    if number >= count:
        raise PelagosError(
            f"process {number} of this machine has no GPU: {count} are visible; start one process for each GPU"
        )
    return torch.device("cuda", number)


def stop() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def all_sum(values: Sequence[float]) -> list[float]:
    """The sum of each value over all processes, in float64."""
    tensor = torch.tensor(values, dtype=torch.float64, device=device())
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor)
    return [float(value) for value in tensor.cpu()]


def device_sum(value: float) -> Tensor:
    """The sum of a number over all processes as a scalar of the device, for which nobody waits yet."""
    # Filled on the device: copied from the host, it would be waited for.
    total = torch.full((), value, device=device())
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(total)
    return total


def reduced(tensor: Tensor, root: int | None = None) -> Callable[[], None]:
    """Begin to replace a tensor by its sum over all processes, in place; returns what waits for it.

    Args:
        tensor: of the same size on all processes.
        root: the process that gets the sum, elsewhere the tensor is lost; None for all.
    """
    if world() == 1:
        return _nothing
    whole = root is None
    work: dist.Work | None = (
        dist.all_reduce(tensor, async_op=True) if whole else dist.reduce(tensor, dst=root, async_op=True)
    )

    def wait() -> None:
        if work is not None:
            work.wait()

    return wait


def _nothing() -> None:
    """Wait for nothing."""


@contextmanager
def fail_together() -> Iterator[None]:
    """A block that fails on all processes if it fails on one, so that none is left waiting in a collective.

    The block itself must not communicate.

    Raises:
        PeerError: another process has failed.
    """
    try:
        yield
    except Exception:
        all_sum([1.0])
        raise
    [failed] = all_sum([0.0])
    if failed:
        raise PeerError("another process has failed; its message says why")


def from_root(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by those of rank 0, in place, one after the other."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def broadcast(value: int) -> int:
    """Rank 0's value, on all processes."""
    tensor = torch.tensor(value, dtype=torch.int64, device=device())
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast(tensor, src=0)
    return int(tensor)


def broadcast_text(text: str) -> str:
    """Rank 0's text, on all processes."""
    length = broadcast(len(text.encode()))
    tensor = torch.zeros(length, dtype=torch.uint8)
    if rank() == 0:
        tensor = torch.tensor(list(text.encode()), dtype=torch.uint8)
    tensor = tensor.to(device())
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast(tensor, src=0)
    return bytes(tensor.cpu().numpy()).decode()


def all_gather(part: Tensor) -> list[Tensor]:
    """The parts of all processes, of the same size, on every one of them."""
    if world() == 1:
        return [part]
    parts = [torch.empty_like(part) for _ in range(world())]
    dist.all_gather(parts, part.contiguous())
    return parts


def connect_to_store(timeout_seconds: float) -> KeyValueStore:
    """A separate connection to the store at which processes have met, for use in another thread."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    timeout = timedelta(seconds=timeout_seconds)
    return torch._C._distributed_c10d.TCPStore(
        address, port, is_master=False, timeout=timeout, wait_for_workers=False
    )
