"""Throughput: the speed of training, its share of what the hardware can do, and the memory that it takes."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple

import numpy as np
import torch

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.training.memory import peak_memory
from pelagos.pipeline.training.objective import ObjectiveConfig
from pelagos.preprocessing.online.online_dataset import OnlineDataset
from pelagos.preprocessing.samples.batch import LoadedBatch
from pelagos.preprocessing.samples.dataset import Dataset


class ThroughputMeter:
    """Counts the work of this process; all processes have the same share, so totals are this times their number.

    Operations are model FLOP (Chowdhery et al. 2022, arXiv 2204.02311): forward passes, and backward passes through the
    steps that gradients flow through. Activations that checkpointing recomputes are no progress and do not count; they
    lower the utilisation.

    Attributes:
        peak: the most operations per second that the process could do.
        measured: whether `peak` was measured, by a matrix product, rather than given.
    """

    def __init__(
        self,
        flops: Mapping[str, float],
        objective: ObjectiveConfig,
        *,
        peak: float = 0.0,
        dtype: torch.dtype = torch.float32,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start counting.

        Args:
            flops: by dataset, operations of a forward pass for each sample, where known.
            objective: says through which steps gradients flow.
            peak: see the class; 0 measures it.
            dtype: the type of the matrices that it is measured with.
            share: of each sample that is this process's; the others of its group have the rest.
            clock: returns the time [s].
        """
        self._flops, self._objective, self._clock, self._share = flops, objective, clock, share
        self.measured = peak == 0
        self.peak = peak or matmul_flops(distributed.device(), dtype)
        self.start()

    def start(self) -> None:
        """Count from zero, from now on."""
        self._started = self._clock()
        self._samples, self._bytes, self._operations, self._waited = 0.0, 0, 0.0, 0.0

    def count(self, batches: Sequence[LoadedBatch], waited: float) -> None:
        """Include the micro-batches of a step, and the time spent waiting for them [s]."""
        self._waited += waited
        for batch in batches:
            self._samples += len(batch) * self._share
            self._bytes += batch.inputs.nbytes + batch.targets.nbytes + batch.forcings.nbytes
            passes = self._objective.passes(batch.kind, batch.steps) * len(batch) * self._share
            self._operations += passes * self._flops.get(batch.layout.dataset, 0.0)

    def report(self) -> dict[str, float]:
        """Rates over all processes since the start; shares of time and the peak memory of this process."""
        seconds, world = self._clock() - self._started, distributed.world()
        values = {
            "samples_per_second": world * self._samples / seconds,
            "megabytes_per_second": world * self._bytes / seconds / 1e6,
            "loader_wait": self._waited / seconds,
            "peak_memory_gigabytes": peak_memory() / 1e9,
        }
        if distributed.has_gpu():
            values["peak_gpu_memory_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
        if self._operations:
            values["model_teraflops"] = world * self._operations / seconds / 1e12
            values["utilisation"] = self._operations / seconds / self.peak
        return values


def simulation_metrics(datasets: Sequence[Dataset]) -> dict[str, float]:
    """The production of simulations over all processes, which must all call it; empty if there are none."""
    online = [dataset for dataset in datasets if isinstance(dataset, OnlineDataset)]
    if not online:
        return {}
    done = [dataset.production() for dataset in online]
    flat = distributed.all_sum([float(value) for one in done for value in astuple(one)])
    values: dict[str, float] = {}
    for dataset, sums in zip(online, np.array(flat).reshape(len(online), -1).tolist(), strict=True):
        ready, wanted, simulated, seconds, drawn, elapsed = sums
        shares = {
            "fill": ready / max(wanted, 1),
            "trajectories": simulated,
            "trajectories_per_second": distributed.world() * simulated / elapsed,
            "samples_per_trajectory": drawn / max(simulated, 1),
            "producers_busy": seconds / (elapsed * dataset.online.producers),
        }
        values |= {f"online/{dataset.layout.dataset}/{name}": value for name, value in shares.items()}
    return values


def matmul_flops(device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 3) -> float:
    """Operations per second of a square matrix product, the fastest of a few tries."""
    # On a GPU smaller products take less time than their launch.
    size = 1024 if device.type == "cpu" else 8192
    a = torch.ones(size, size, device=device, dtype=dtype)
    times = []
    for _ in range(repeats + 1):
        before = time.perf_counter()
        product = a @ a
        float(product[0, 0])  # waits for the device
        times.append(time.perf_counter() - before)
    # The first one also loads the library and allocates.
    return 2 * size**3 / min(times[1:])
