"""Meter: how fast training goes, how much of that the hardware could do, and how much memory it takes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple

import numpy as np
import psutil
import torch

from pelagos.pipeline import distributed
from pelagos.preprocessing.batch import Batch
from pelagos.preprocessing.dataset import Dataset
from pelagos.preprocessing.online import OnlineDataset


class Meter:
    """Counts what this process does; processes are dealt alike, so that all is that times their number.

    Attributes:
        peak: operations a second that the process could do.
        measured: whether that was measured, with a product of matrices, rather than given.
    """

    def __init__(self, flops: Mapping[str, float], peak: float = 0.0) -> None:
        """Begin at zero.

        Args:
            flops: operations of one call of the network for one sample, by dataset, where known.
            peak: see the class; 0 measures it.
        """
        self._flops = flops
        self.measured = peak == 0
        self.peak = peak or matmul_flops(distributed.device())
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._started = time.monotonic()
        self._samples, self._bytes, self._operations, self._waited = 0, 0, 0.0, 0.0

    def count(self, batches: Sequence[Batch], waited: float) -> None:
        """Take in the micro-batches of a step, and the seconds for which they were waited for."""
        self._waited += waited
        for batch in batches:
            self._samples += len(batch)
            self._bytes += batch.inputs.nbytes + batch.targets.nbytes + batch.forcings.nbytes
            # A backward pass is two products for each of the forward pass.
            calls = 3 * (1 if batch.kind == "pairs" else batch.targets.shape[1]) * len(batch)
            self._operations += calls * self._flops.get(batch.layout.dataset, 0.0)

    def report(self) -> dict[str, float]:
        """Rates over all processes since the start, shares of one, and its memory at most."""
        seconds, world = time.monotonic() - self._started, distributed.world()
        values = {
            "samples_per_second": world * self._samples / seconds,
            "megabytes_per_second": world * self._bytes / seconds / 1e6,
            "loader_wait": self._waited / seconds,
            "memory_gigabytes": memory_bytes() / 1e9,
        }
        if self._operations:
            values["model_teraflops"] = world * self._operations / seconds / 1e12
            values["utilisation"] = self._operations / seconds / self.peak
        return values


def production(datasets: Sequence[Dataset]) -> dict[str, float]:
    """What the simulations among the datasets do, over all processes, which must all ask; nothing without any."""
    online = [dataset for dataset in datasets if isinstance(dataset, OnlineDataset)]
    if not online:
        return {}
    done = [dataset.production() for dataset in online]
    flat = distributed.all_sum([float(value) for one in done for value in astuple(one)])
    values: dict[str, float] = {}
    for dataset, sums in zip(online, np.array(flat).reshape(len(online), -1).tolist(), strict=True):
        there, wanted, simulated, seconds, drawn, elapsed = sums
        shares = {
            "fill": there / max(wanted, 1),
            "trajectories": simulated,
            "trajectories_per_second": distributed.world() * simulated / elapsed,
            "samples_per_trajectory": drawn / max(simulated, 1),
            "producers_busy": seconds / (elapsed * dataset.online.producers),
        }
        values |= {f"online/{dataset.layout.dataset}/{name}": value for name, value in shares.items()}
    return values


def memory_bytes() -> int:
    """The most that this process has had on its device; on a CPU what it has now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return int(psutil.Process().memory_info().rss)


def matmul_flops(device: torch.device, size: int = 1024, repeats: int = 3) -> float:
    """Operations a second of the fastest of a few products of float32 matrices."""
    a = torch.ones(size, size, device=device)
    times = []
    for _ in range(repeats + 1):
        before = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for the device
        times.append(time.perf_counter() - before)
    return 2 * size**3 / min(times[1:])
