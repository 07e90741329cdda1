"""GPU estimates: how long steps and checkpoints of a run would take on GPUs, and how many files it would open."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import ceil, prod

from pelagos.pipeline.checking.check_finding import CheckFinding, bytes_text, warning
from pelagos.pipeline.checking.gpu_plan import GpuPlan
from pelagos.pipeline.checking.gpu_target import peak_of, signal_lead
from pelagos.pipeline.checking.rehearsal import RunCost
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.store.coded_reader import CodedReader
from pelagos.preprocessing.store.shard_reader import MAX_OPEN, ShardReader


@dataclass(frozen=True)
class GpuEstimates:
    """Times and rates of a run.

    Attributes:
        plan: what the run takes of its GPUs.
        mixture: its samples.
        cost: what they cost.
        command: that trains.
    """

    plan: GpuPlan
    mixture: Mixture
    cost: RunCost
    command: str

    @property
    def flops(self) -> float:
        """Operations of a step over all processes, mean of the run; with what checkpointing repeats."""
        loop = self.plan.config.loop
        work = self.plan.work[self.plan.checkpointing].of(loop.micro_batch)
        # Counted for the worst samples; others cost less in proportion.
        share = self.cost.mean / self.cost.most if self.cost.most else 1.0
        return work.flops / loop.micro_batch * loop.batch_size * share

    @property
    def peak(self) -> tuple[str, float]:
        """How products are computed, and the most operations per second of a GPU."""
        engine, stated = self.plan.config.engine, self.plan.config.loop.peak_flops
        products, peak = peak_of(engine.dtype, tf32=engine.tf32)
        return (f"{products}, loop.peak_flops", stated) if stated else (f"{products}, an H100's", peak)

    @property
    def launches(self) -> float:
        """The time in which a step's kernels are launched [s]."""
        plan, loop = self.plan, self.plan.config.loop
        kernels = plan.work[plan.checkpointing].of(loop.micro_batch).kernels
        return plan.accumulation * kernels * plan.target.launch

    @property
    def step(self) -> float:
        """The time of a step [s]."""
        target = self.plan.target
        arithmetic = self.flops / (target.gpus * self.peak[1] * target.utilisation)
        return max(arithmetic, self.launches)

    @property
    def checkpoint_bytes(self) -> float:
        """The size of a checkpoint on disk."""
        loop = self.plan.config.loop
        # Weights, two moments and the average, which is written even where it is the weights; with the best weights.
        kept = 5 if loop.patience or loop.kept == "best" else 4
        return 4.0 * kept * self.plan.trained + self.plan.frozen + self.plan.buffers

    @property
    def checkpoint(self) -> float:
        """The time to write one: each process writes its share, then reads it back for its checksum [s]."""
        target = self.plan.target
        # At ZeRO 0 all have the same, and rank 0 writes it.
        alone = self.plan.configured.stage == 0
        writers, machines = (1, 1) if alone else (target.gpus, target.machines)
        size = self.checkpoint_bytes
        return size / machines / target.write_rate + size / writers / target.hash_rate

    def findings(self) -> Iterator[CheckFinding]:
        """What is worth knowing of it."""
        yield self._describe_step()
        yield from self._describe_checkpoint()
        yield self._describe_files()
        assumed = self.plan.target.assumptions()
        yield CheckFinding("assumed", "; ".join(assumed), {"assumptions": assumed})

    def _describe_step(self) -> CheckFinding:
        target, (how, peak), loop = self.plan.target, self.peak, self.plan.config.loop
        bound = "; bound by the launches of kernels" if self.step == self.launches else ""
        return CheckFinding(
            "step estimate",
            f"{self.flops:.3g} operations, forward and backward, take {self.step:.3g} s at"
            f" {100 * target.utilisation:g} % of {peak / 1e12:g} TFLOP/s ({how}){bound};"
            f" {loop.steps} steps {timedelta(seconds=ceil(self.step * loop.steps))}",
            {
                "operations": self.flops,
                "seconds": self.step,
                "run_seconds": self.step * loop.steps,
                "peak_flops": peak,
                "utilisation": target.utilisation,
                "launch_seconds": self.launches,
            },
        )

    def _describe_checkpoint(self) -> Iterator[CheckFinding]:
        lead = signal_lead(self.command)
        writes = 2 if self.plan.config.loop.checkpoint_every else 1
        # One may be under way in the background, and the step that the signal meets is finished.
        needed = self.step + writes * self.checkpoint
        yield CheckFinding(
            "checkpoint estimate",
            f"{bytes_text(self.checkpoint_bytes)}, {self.checkpoint:.3g} s; a stop takes up to {needed:.3g} s of the"
            f" {lead} s that --signal gives (a step, and {writes} checkpoint(s); a validation under way not counted)",
            {
                "bytes": self.checkpoint_bytes,
                "seconds": self.checkpoint,
                "stop_seconds": needed,
                "signal_seconds": lead,
            },
        )
        if needed > lead:
            yield warning(
                f"a stop takes up to {needed:.0f} s, and the job script's --signal gives {lead} s: what was trained"
                f" since the last checkpoint would be lost; submit with slurm.grace={ceil(1.5 * needed)}"
            )

    def _describe_files(self) -> CheckFinding:
        shares = self.mixture.shares / self.mixture.shares.sum()
        each = sum(
            float(share) * _files_per_sample(dataset)
            for dataset, share in zip(self.mixture.datasets, shares, strict=True)
        )
        rate = self.plan.config.loop.batch_size / self.step
        # All of the processes that share a sample open its files.
        opened = each * rate * self.plan.config.engine.domain
        return CheckFinding(
            "files",
            f"up to {opened:.3g} opened a second, by all processes: {each:.2g} for each of {rate:.3g} samples",
            {"opened_per_second": opened, "per_sample": each, "samples_per_second": rate},
        )


def _files_per_sample(dataset: Dataset) -> float:
    """How many shards are opened for a sample drawn at random; none where all of a process's stay open."""
    reader, config = dataset.store.frames, dataset.config
    if isinstance(reader, CodedReader):
        reader = reader.raw
    if not isinstance(reader, ShardReader):
        return 0.0  # simulated, or on a server
    layout = reader.layout
    shards = prod(-(-n // per) for n, per in zip(layout.shape, layout.shard, strict=True))
    if isinstance(config, DatasetConfig) and config.pool:
        # Each trajectory is read once an epoch, by one process.
        return shards / dataset.num_samples
    frames = 1 + len(config.history) + dataset.steps
    spans = frames if layout.splits_trajectories else 1
    return spans * max(0.0, 1 - MAX_OPEN / shards)
