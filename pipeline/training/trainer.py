"""Trainer: the loop of optimiser steps, validations and checkpoints."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pelagos.pipeline.engine import checkpoint, distributed
from pelagos.pipeline.engine.checkpoint_writer import CheckpointWriter
from pelagos.pipeline.engine.collective_network import CollectiveNetwork
from pelagos.pipeline.engine.ema import WeightAverage
from pelagos.pipeline.engine.engine import Engine, StepInfo
from pelagos.pipeline.runs.progress import bar
from pelagos.pipeline.tracking.tracker import Tracker
from pelagos.pipeline.training.best_weights import BestWeights
from pelagos.pipeline.training.device_batches import DeviceBatches
from pelagos.pipeline.training.interruption import stop_request
from pelagos.pipeline.training.ledger import Ledger
from pelagos.pipeline.training.loss_guard import LossGuard, MicroBatchLosses
from pelagos.pipeline.training.objective import Objective
from pelagos.pipeline.training.schedule import ScheduleConfig
from pelagos.pipeline.training.seed_draws import seed_draws
from pelagos.pipeline.training.surroundings import differences
from pelagos.pipeline.training.throughput import ThroughputMeter, simulation_metrics
from pelagos.pipeline.training.watchdog import Watchdog, watchdog
from pelagos.preprocessing.config import Changeable, Config
from pelagos.preprocessing.errors import DataError, PelagosError, StoppedError
from pelagos.preprocessing.loading.loader import Loader, LoaderConfig
from pelagos.preprocessing.samples.batch import Batch, LoadedBatch
from pelagos.preprocessing.samples.mixture import Order, TrainingOrder


def receivers(groups: int, domain: int) -> str:
    """Whom the micro-batches of a step are dealt to, in words.

    >>> receivers(4, 1), receivers(2, 2)
    ('4 process(es)', '2 group(s) of 2 processes (engine.domain)')
    """
    return f"{groups} " + (
        "process(es)" if domain == 1 else f"group(s) of {domain} processes (engine.domain)"
    )


class LoopConfig(Config):
    """How long to train, and what to do on the way.

    Attributes:
        steps: optimiser steps in all.
        batch_size: samples per optimiser step, over all processes.
        micro_batch: samples of one forward pass, all of one dataset.
        ema: decay of the moving average of the weights that is validated and saved as the model; 0 for none.
        validate_every: steps between validations; 0 for a single one, at the end.
        validation_samples: the number of fixed samples of each dataset that a validation uses.
        validation_rollout: forecast steps of the rollouts that a validation also scores, of the shortest lead time
            seen in training; 0 for none.
        patience: the number of validations in a row without a better score after which training ends; 0 for never.
        kept: whether the model gets the `last` weights or those with the `best` score: the held-out loss, of rollouts
            where there are any, averaged over datasets.
        checkpoint_every: steps between checkpoints; 0 for a single one, at the end.
        keep: the number of checkpoints to keep.
        background_save: whether checkpoints are written while training goes on, from a copy in the host's memory.
        damaged: whether to `stop` if the newest checkpoint or the file that names it is damaged, or to continue from
            the `previous` one, the newest that is intact.
        ledger: whether to record the samples of each step, in `ledger/` of the run's folder.
        log_every: steps between reports.
        loader: how batches are read ahead.
        stalled_after: time without progress after which the process that holds up the others, and what it waits for,
            is named [s]; 0 for never.
        peak_flops: operations per second that a process could do, to tell its utilisation; 0 measures it.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(default=16, gt=0)
    micro_batch: int = Field(default=8, gt=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    validate_every: int = Field(default=0, ge=0)
    validation_samples: int = Field(default=64, gt=0)
    validation_rollout: int = Field(default=0, ge=0)
    patience: int = Field(default=0, ge=0)
    kept: Literal["last", "best"] = "last"
    checkpoint_every: Changeable[int] = Field(default=0, ge=0)
    keep: Changeable[int] = Field(default=2, gt=0)
    background_save: Changeable[bool] = True
    damaged: Changeable[Literal["stop", "previous"]] = "stop"
    ledger: Changeable[bool] = False
    log_every: Changeable[int] = Field(default=10, gt=0)
    loader: Changeable[LoaderConfig] = LoaderConfig()
    stalled_after: Changeable[float] = Field(default=300.0, ge=0)
    peak_flops: Changeable[float] = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _choices_have_validations(self) -> Self:
        if (self.patience or self.kept == "best") and not self.validate_every:
            raise ValueError("patience and kept=best compare validations during training: set validate_every")
        return self

    @property
    def blocks(self) -> int:
        """Micro-batches per optimiser step, over all processes."""
        return self.batch_size // self.micro_batch

    def accumulation(self, groups: int, domain: int = 1) -> int:
        """Micro-batches per optimiser step and process.

        Args:
            groups: of processes, which have samples of their own.
            domain: processes of each group.

        Raises:
            DataError: the batch cannot be dealt evenly.
        """
        if self.batch_size % self.micro_batch or self.blocks % groups:
            number = "processes" if domain == 1 else "groups"
            raise DataError(
                f"batch_size {self.batch_size} in micro-batches of {self.micro_batch} cannot be dealt to"
                f" {receivers(groups, domain)}: batch_size / micro_batch must be a multiple of the number of {number}"
            )
        return self.blocks // groups


class Trainer:
    """Trains a network, from its newest checkpoint to the last step."""

    def __init__(
        self,
        config: LoopConfig,
        schedule: ScheduleConfig,
        engine: Engine,
        objective: Objective,
        guard: LossGuard,
        meter: ThroughputMeter,
        tracker: Tracker,
        folder: Path,
        seed: int = 0,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a trainer at step 0.

        Args:
            config: how long to train, and what to do on the way.
            schedule: the learning rate.
            engine: takes the optimiser steps.
            objective: computes the loss.
            guard: judges each step.
            meter: measures throughput.
            tracker: receives the metrics.
            folder: where checkpoints are kept.
            seed: seeds all random draws of training.
            record: what checkpoints say about the run, beside its state.
        """
        self.config, self.schedule, self.engine = config, schedule, engine
        self.objective, self.guard, self.meter = objective, guard, meter
        self.tracker, self.folder = tracker, folder
        self.ema, self.best = WeightAverage(engine, config.ema), BestWeights()
        self.step = 0
        self._watchdog = Watchdog(0.0)  # a silent one, until `run`
        self._seed, self._record = seed, dict(record or {})
        # Of what the last bits depend on, one entry for each time that the run was resumed.
        self._changes: list[dict[str, Any]] = []
        self._writer = CheckpointWriter(folder, config.keep, background=config.background_save)
        file = folder.with_name("ledger") / f"rank-{distributed.rank()}.jsonl"
        # The processes that share a sample are one among those that samples are dealt to.
        domain = engine.config.domain
        self._rank, self._world = distributed.rank() // domain, distributed.world() // domain
        self._ledger = Ledger(file, active=config.ledger and distributed.rank() % domain == 0)

    def resume(self, digest: str) -> None:
        """Continue from the newest checkpoint of the folder, if there is one.

        Raises:
            DataError: the checkpoint belongs to another configuration.
            DamagedFileError: it is damaged, and the configuration does not allow an earlier one.
        """
        step = self._newest_intact()
        if step < 0:
            return
        path = checkpoint.path_of(self.folder, step)
        saved, values = checkpoint.saved_tensors(path)
        if values["fingerprint"] != digest:
            raise DataError(f"checkpoint {path} belongs to another configuration")
        self._say_changes(values, step)
        self.guard.load(values["guard"])
        # Its bias correction counts the steps that AdamW has taken, which skipped ones are not.
        self.engine.load(saved, step - self.guard.skipped)
        self.ema.load(saved)
        self.best.load(values["best"])
        if "best" in saved.groups:
            # Empty tensors of the right sizes, and then their content.
            self.best.keep(self.ema.share(), {n: saved.tensor("best", n) for n in self.engine.buffers()})
            self.engine.shards.fill_share(self.best.share, partial(saved.read, "best"))
        self.step = step

    def _newest_intact(self) -> int:
        """The step of the newest intact checkpoint, -1 where there is none; each process verifies some of the files."""
        rank, world = distributed.rank(), distributed.world()
        step, damaged = self._verified_by_root(slice(0, None, world)), 0.0
        if rank and step >= 0:
            try:
                checkpoint.verify_checksums(checkpoint.path_of(self.folder, step), slice(rank, None, world))
            except (PelagosError, OSError):
                damaged = 1.0
        # Then rank 0 finds it as well, and says what it is.
        return self._verified_by_root(slice(None)) if distributed.all_sum([damaged])[0] else step

    def _verified_by_root(self, part: slice) -> int:
        """The step of the newest checkpoint of which a part of the files is intact; -1 where there is none."""
        step = -1
        with distributed.fail_together():
            # Rank 0 alone looks, since it may set a damaged one aside; the others take its word.
            if distributed.rank() == 0:
                previous = self.config.damaged == "previous"
                newest = checkpoint.newest_intact(self.folder, previous=previous, part=part)
                step = -1 if newest is None else int(newest.name.removeprefix("step-"))
        return distributed.broadcast(step)

    def _say_changes(self, then: Mapping[str, Any], step: int) -> None:
        """Say and keep how what the last bits depend on differs from when a checkpoint was written."""
        self._changes = list(then.get("changes", []))
        # Only rank 0 has a record.
        if changed := differences(then, self._record):
            self._changes.append({"step": step, "changed": changed})
            print(
                f"WARNING: the run goes on from step {step} under other conditions ({'; '.join(changed)}): its next"
                " steps may differ in the last bits from those of a run that was not interrupted",
                file=sys.stderr,
                flush=True,
            )

    def run(self, order: TrainingOrder, held_out: Mapping[str, Order], digest: str, title: str) -> None:
        """Train to the last step. However this ends, all checkpoints that were begun are on disk.

        Args:
            order: the order of training samples.
            held_out: samples to validate on, by the name of their score; the last decides which weights are best.
            digest: the run's fingerprint, which its checkpoints must match.
            title: the title of the progress bar.

        Raises:
            StoppedError: a signal asked for it; the last step has a checkpoint.
            CheckpointWriteError: a checkpoint could not be written.
            DataError: a step was bad, and the guard is to stop there.
        """
        steps = self.config.steps - self.step
        reading = self.config.loader.model_dump()
        # The order is a function of the position, so reading starts where training does; no state of it is saved.
        loader = self._loader(order, start_step=self.step, num_steps=steps, **reading)
        stream = DeviceBatches(iter(loader), distributed.device())
        self.meter.start()
        with (
            bar(title, self.config.steps, distributed.rank() == 0) as show,
            stop_request() as request,
            watchdog(self.config.stalled_after) as self._watchdog,
            self._writer,
        ):
            while not self._finished():
                numbers = order.numbers(self.step, self._rank, self._world)
                micro = _MicroBatches(stream, loader.awaited, numbers, self._seed, self._mark)
                judged: list[MicroBatchLosses] = []
                info = self.engine.step(
                    (self._loss_function(batch, judged) for batch in micro),
                    self._learning_rate,
                    request.asked,
                )
                self.guard.judge(self.step + 1, info.grad_norm, judged)
                self.meter.count(micro.seen, micro.waited)
                self.step += 1
                self._ledger.record(self.step, zip(numbers, micro.seen, strict=True))
                self.ema.update(self.step)
                if self._due(self.config.validate_every):
                    self._validate(held_out)
                if self._due(self.config.log_every):
                    show(self.step, f"loss {self._log(info, order):.4f}")
                stop = request.agreed(info.stops) and not self._finished()
                if stop or self._due(self.config.checkpoint_every):
                    self._save(digest)
                if stop or self._finished():
                    # The last checkpoint has to be on disk, and a failure to write it to reach all processes.
                    with distributed.fail_together():
                        self._writer.wait()
                if stop:
                    raise StoppedError(
                        f"{request.reason}: stopped after step {self.step}, kept in {self.folder}"
                    )

    def trained_network(self) -> nn.Module:
        """The network with the weights that training was for, on the host, from the last checkpoint."""
        # From disk, tensor by tensor: on the device there may be no room for a whole one.
        saved, _ = checkpoint.saved_tensors(checkpoint.path_of(self.folder, self.step))
        group = "best" if self.config.kept == "best" and "best" in saved.groups else "average"
        if self.config.kept == "best" != group:
            print(
                "WARNING: kept=best, but no validation had a finite loss: the model gets the last weights",
                file=sys.stderr,
                flush=True,
            )
        return self.engine.filled(saved, group)

    def _loader(self, order: Order, **options: Any) -> Loader:
        # A GPU normalises without taking time from the cores that read the next batches.
        scaled = distributed.device().type == "cpu"
        places = {"rank": self._rank, "world": self._world, "scaled": scaled}
        return Loader(order, **{**places, **options})

    def _mark(self, activity: str, of: Callable[[], str] = str) -> None:
        self._watchdog.mark(self.step + 1, activity, of)

    def _log(self, info: StepInfo, order: Order) -> float:
        [loss] = distributed.all_sum([info.loss / distributed.world()])
        values = {
            "train/loss": loss,
            "train/grad_norm": info.grad_norm,
            "train/skipped": self.guard.skipped,
            "lr": self._learning_rate({"peak": 1.0}),
            **self.meter.report(),
            **simulation_metrics(order.datasets),
            **self.objective.report(),
        }
        self.tracker.metrics(values, self.step)
        return loss

    def _finished(self) -> bool:
        exhausted = bool(self.config.patience) and self.best.waited >= self.config.patience
        return exhausted or self.step == self.config.steps

    def _due(self, every: int) -> bool:
        return self._finished() or bool(every and self.step % every == 0)

    def _learning_rate(self, group: Mapping[str, Any]) -> float:
        # As a factor of each group's own highest rate, so that their ratios stay.
        return float(group["peak"]) * self.schedule.factor(self.step, self.config.steps)

    def _loss_function(self, batch: Batch, judged: list[MicroBatchLosses]) -> Callable[[nn.Module], Tensor]:
        dataset = batch.layout.dataset

        def loss_of(network: nn.Module) -> Tensor:
            loss, losses_B = self.objective.training(network, batch)
            judged.append(MicroBatchLosses(dataset, batch.steps, batch.index, losses_B))
            return self.guard.nan_if_spike(loss, dataset, batch.steps)

        return loss_of

    def _validate(self, held_out: Mapping[str, Order]) -> None:
        """Report the held-out losses of the averaged weights, and keep those if they are the best so far."""
        means: dict[str, float] = {}
        with self.ema.network() as network:
            for score, order in held_out.items():
                means = self._mean_losses(network, order)
                self.tracker.metrics({f"{score}/{name}": mean for name, mean in means.items()}, self.step)
        if not means or not (self.config.patience or self.config.kept == "best"):
            return
        if self.best.improved(sum(means.values()) / len(means), self.step):
            self.best.keep(self.ema.share(), self.engine.buffers())

    @torch.no_grad()
    def _mean_losses(self, network: nn.Module, order: Order) -> dict[str, float]:
        """The mean loss over the samples of each dataset."""
        sums = {dataset.layout.dataset: [0.0, 0.0] for dataset in order.datasets}
        needed = isinstance(network, CollectiveNetwork)
        with self.engine.autocast():
            for loaded, counted in self._validated(order, needed=needed):
                self._mark("validates")
                batch = loaded.to(distributed.device())
                error = self.objective.validation(network, batch)
                sums[batch.layout.dataset][0] += counted * float(error) * len(batch)
                sums[batch.layout.dataset][1] += counted * len(batch)
            if isinstance(network, CollectiveNetwork):
                network.finish()
        # Sums and counts, not means: processes validate different numbers of samples.
        totals = distributed.all_sum([value for pair in sums.values() for value in pair])
        return {name: totals[2 * i] / totals[2 * i + 1] for i, name in enumerate(sums)}

    def _validated(self, order: Order, *, needed: bool) -> Iterator[tuple[LoadedBatch, bool]]:
        """This process's batches, which count; one of rank 0's, which does not, where it has none but needs one."""
        for batch in self._loader(order):
            yield batch, True
            needed = False
        if needed:
            yield next(iter(self._loader(order, rank=0))), False

    def _save(self, digest: str) -> None:
        self._mark("writes a checkpoint")
        shares = {**self.engine.shares(), "average": {"": self.ema.share()}}
        more = {"weights": self.engine.others()}
        if self.best.share:
            shares["best"], more["best"] = {"": self.best.share}, self.best.buffers
        values = {
            "fingerprint": digest,
            "samples": self.step * self.config.batch_size,
            "processes": distributed.world(),
            "best": self.best.values(),
            "guard": self.guard.state(),
            **({"changes": self._changes} if self._changes else {}),
            **self._record,
        }
        with distributed.fail_together():
            # Before the copies are made: of two checkpoints they would take twice the room.
            self._writer.wait()
        share = self.engine.saved(shares, more, copied=self._writer.background)
        self._writer.save(self.step, share, values)


class _MicroBatches:
    """The micro-batches of one step; each is valid until the next is taken.

    Random draws while one is in use depend on its number and the seed alone.
    """

    def __init__(
        self,
        stream: DeviceBatches,
        awaited: Callable[[], str],
        numbers: Sequence[int],
        seed: int,
        mark: Callable[..., None],
    ) -> None:
        self._stream, self._awaited = stream, awaited
        self._numbers, self._seed, self._mark = numbers, seed, mark
        self.waited = 0.0
        # Only its index, layout and sizes may be used later: the memory of its fields is filled again.
        self.seen: list[LoadedBatch] = []

    def __iter__(self) -> Iterator[Batch]:
        for number in self._numbers:
            before = time.monotonic()
            self._mark("reads data", self._awaited)
            loaded, batch = self._stream.take()
            self.waited += time.monotonic() - before
            self.seen.append(loaded)
            seed_draws(self._seed, number)
            self._mark("computes")
            yield batch
        before = time.monotonic()
        # Before the step's end, where the host waits for the device.
        self._stream.fetch()
        self.waited += time.monotonic() - before
