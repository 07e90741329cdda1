"""The training run that pretraining and fine-tuning share: from a checked configuration to a model folder."""

import hashlib
import logging
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from pelagos.models.layers.low_rank import merged
from pelagos.models.layers.row_layout import WHOLE, RowLayout
from pelagos.models.losses import LossConfig
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.engine.hollow_build import hollow_build, on_host
from pelagos.pipeline.runs import model_folder, run_folder, run_inputs
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.runs.run_inputs import RunInput
from pelagos.pipeline.tracking.code_version import code_version
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training.held_out import held_out_orders
from pelagos.pipeline.training.loss_guard import GuardConfig, LossGuard
from pelagos.pipeline.training.network_cost import network_cost
from pelagos.pipeline.training.objective import Objective, ObjectiveConfig
from pelagos.pipeline.training.optimizer import OptimizerConfig
from pelagos.pipeline.training.run_extension import extend, steps_before
from pelagos.pipeline.training.schedule import ScheduleConfig
from pelagos.pipeline.training.shared_members import ALONE, SharedMembers, share_members
from pelagos.pipeline.training.shared_rows import share_rows
from pelagos.pipeline.training.surroundings import surroundings
from pelagos.pipeline.training.throughput import ThroughputMeter
from pelagos.pipeline.training.trainer import LoopConfig, Trainer
from pelagos.preprocessing.config import Changeable, Config
from pelagos.preprocessing.errors import MissingFileError, StoppedError
from pelagos.preprocessing.files.durable import sole_writer
from pelagos.preprocessing.files.location import Folder, Url
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.online.online_dataset import DataConfig
from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.store import open_store

_log = logging.getLogger(__name__)


class TrainingStage(Config):
    """What the stages that train have in common.

    Attributes:
        output: the run's folder: checkpoints, metrics and, at the end, the `model`.
        name: the run's name, by default the folder's.
        seed: seeds the initial weights, the order of samples and all other random draws.
        threads: processor threads of each process; 0 leaves them to the launcher.
    """

    output: Changeable[Folder]
    name: Changeable[str] = ""
    seed: int = Field(default=0, ge=0)
    loop: LoopConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    engine: EngineConfig = EngineConfig()
    loss: LossConfig = LossConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    guard: GuardConfig = GuardConfig()
    tracking: Changeable[TrackingConfig] = TrackingConfig()
    threads: Changeable[int] = Field(default=0, ge=0)

    @property
    @abstractmethod
    def data_configs(self) -> tuple[DataConfig, ...]:
        """The stores and simulations that samples come from."""

    @property
    def stores(self) -> list[Path | Url]:
        """The paths of all stores that the run reads."""
        return [data.path for data in self.data_configs if data.kind == "store"]

    def accumulation(self, world: int) -> int:
        """Micro-batches per optimiser step on each of so many processes.

        Raises:
            ConfigError: the processes cannot be put into groups that share samples, or would cut matrices that Muon
                needs whole.
            DataError: the batch cannot be dealt evenly.
        """
        if self.optimizer.matrices == "muon":
            self.engine.check_whole_matrices(world)
        return self.loop.accumulation(self.engine.groups(world), self.engine.domain)

    def runs(self) -> tuple[Self, ...]:
        """The runs that the configuration stands for: this one, or several of other seeds."""
        return (self,)

    def inputs(self) -> list[RunInput]:
        """What the run starts from, by content.

        Raises:
            PelagosError: some of it is not there, or damaged.
        """
        return [store_input(data) for data in self.data_configs if data.kind == "store"]

    def missing_stores(self) -> list[str]:
        """Messages on those that do not exist yet."""
        return [f"the store {path} does not exist yet" for path in self.stores if not path.exists()]

    @property
    @abstractmethod
    def title(self) -> str:
        """What the progress bar calls the run."""

    @abstractmethod
    def assemble(self) -> tuple[Model, Mixture]:
        """The network as it is before the first step, and its samples.

        Raises:
            PelagosError: a store, a simulation or a model cannot be used.
        """

    def completed(self, objective: Objective, mixture: Mixture) -> Objective:
        """The objective, with what the stage adds to the samples of the mixture."""
        return objective

    def opening_lines(self) -> list[str]:
        """What a run says before its first step, once it is assembled."""
        return []

    @abstractmethod
    def available(self) -> tuple[Self | None, list[str]]:
        """The part of the run whose inputs exist already, None where that is not enough, and what is missing."""

    @model_validator(mode="after")
    def _shared_as_the_loss_allows(self) -> Self:
        if self.engine.shared == "members" and self.loss.kind != "crps":
            raise ValueError(
                f"engine.shared: members is for ensembles, which loss.kind: {self.loss.kind} has none of; crps would be"
                " right, or shared: rows"
            )
        if self.engine.row_processes > 1 and (self.loss.gradient or self.loss.octaves):
            raise ValueError("loss.gradient and loss.octaves need all rows of a sample: engine.domain: 1")
        return self

    @model_validator(mode="after")
    def _simulations_fit(self) -> Self:
        online = [data for data in self.data_configs if data.kind == "online"]
        if online and self.loop.loader.processes:
            raise ValueError(
                "loop.loader.processes is for stores: simulated trajectories are read in threads"
            )
        if online and self.engine.domain > 1:
            raise ValueError(
                "engine.domain is for stores: each process simulates whole trajectories for itself"
            )
        if small := [data.reservoir for data in online if data.reservoir < self.loop.blocks]:
            raise ValueError(
                f"data: a reservoir of {small[0]} trajectories for the {self.loop.blocks} micro-batches of a step; at"
                " least one for each, better dozens, would be right"
            )
        return self


def run(config: TrainingStage) -> Path:
    """Train, or continue where an interrupted run of the same folder was; returns the model's folder."""
    with _sole_run(config.output):
        digest = prepare(config)
        model, mixture = _assembled(config)
        if distributed.rank() == 0:
            for line in (*config.opening_lines(), *config.engine.remarks()):
                say(line)
        with closing(mixture):
            return train(config, model, mixture, digest)


def _assembled(config: TrainingStage) -> tuple[Model, Mixture]:
    """The network and its samples; where weights are sharded, the network has some on rank 0 alone."""
    # Before a simulation takes its time; by the processes that there are, unlike in a check.
    config.accumulation(distributed.world())
    if config.engine.stage(distributed.world()) < 3 or distributed.rank() == 0:
        return config.assemble()
    try:
        with hollow_build():
            model, mixture = config.assemble()
    except NotImplementedError as error:  # from torch, which has no values on the meta device
        print(
            f"WARNING: rank {distributed.rank()} builds the whole network on its host: while it is built, it asks for"
            f" values of its weights ({error})",
            file=sys.stderr,
            flush=True,
        )
        torch.manual_seed(config.seed)
        return config.assemble()
    on_host(model.network)
    return model, mixture


@contextmanager
def _sole_run(folder: Path) -> Iterator[None]:
    """Keep a second start out of the run's folder, by a lock that rank 0 holds."""
    distributed.start()
    with ExitStack() as held:
        with distributed.fail_together():
            if distributed.rank() == 0:
                held.enter_context(sole_writer(folder))
        yield


def prepare(config: TrainingStage) -> str:
    """Join the process group, seed, and claim the run folder; returns the run's fingerprint."""
    distributed.start()
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    digest = ""
    with distributed.fail_together():
        # Rank 0 alone: what an alias points to may change while processes ask.
        if distributed.rank() == 0:
            extend(config.output, config, config.loop, config.schedule)
            digest = run_inputs.claim(config.output, config, config.inputs())
    return distributed.broadcast_text(digest)


def check_folder(config: TrainingStage) -> None:
    """Refuse a run's folder as `prepare` would, and write nothing.

    Raises:
        ConfigError: it holds another run, one of other inputs, or one that more steps cannot follow.
    """
    before = steps_before(config.output, config, config.loop, config.schedule)
    if before is not None:
        config = config.model_copy(update={"loop": config.loop.model_copy(update={"steps": before})})
    run_inputs.check(config.output, config, config.inputs())


def store_input(data: DatasetConfig) -> RunInput:
    """A store as an input of a run."""
    # Opened before anything is compared, so that what is no store is said to be none.
    path, opened = data.path, open_store(data.path, data.verify).path
    # Earlier versions took the metadata, which does not change with every value.
    metadata = hashlib.sha256((opened / "zarr.json").read_bytes()).hexdigest()
    try:
        checksum = read_manifest(opened).checksum
    except MissingFileError:
        _log.warning("%s has no manifest, so that a run notices only changes of its metadata", opened)
        checksum = metadata
    return RunInput(f"store {path}", str(path), str(path), checksum, before=metadata)


def train(config: TrainingStage, model: Model, mixture: Mixture, digest: str) -> Path:
    """Train a model's network on a mixture and save it; returns its folder, `output/model`."""
    folder = config.output / "model"
    rank = distributed.rank()
    name = config.name or config.output.name
    if _finished(config.output, digest):
        # The server may have been away when the run ended.
        if rank == 0:
            config.tracking.catch_up(name, config.output)
        return folder
    with distributed.fail_together():
        tracker = config.tracking.build(name, config.output, active=rank == 0)
    try:
        _train(config, model, mixture, digest, tracker)
    except (StoppedError, KeyboardInterrupt):
        tracker.close("KILLED")
        raise
    except BaseException:
        # MLflow would show the run as running for ever.
        tracker.close("FAILED")
        raise
    tracker.close()
    # Nobody returns, and reads the model, before rank 0 has written it.
    distributed.barrier()
    return folder


def _train(config: TrainingStage, model: Model, mixture: Mixture, digest: str, tracker: Tracker) -> None:
    """Train to the end and save the model."""
    with distributed.fail_together():
        tracker.params(config.model_dump(mode="json"))
        if distributed.rank() == 0:
            tracker.datasets(run_inputs.recorded_stores(config.output), "training")
            run_folder.note_code(config.output, code_version())
            for dataset in mixture.datasets:
                if dataset.augmentation:
                    say(f"note: augmentation: {dataset.layout.dataset}: {dataset.augmentation.describe()}")
        meter = _meter(config, model, mixture)
    tracker.params({"peak_flops": meter.peak, "peak_flops_from": "matmul" if meter.measured else "given"})
    trainer = build_trainer(config, model, mixture, meter, tracker)
    trainer.resume(digest)
    trainer.run(mixture, held_out_orders(mixture, config.loop), digest, config.title)
    _save_model(config, model, trainer, digest)


def _finished(folder: Path, digest: str) -> bool:
    """Whether the run has finished and its model is there; the same answer on all processes."""
    # Rank 0 alone looks: others might come after it has written the model anew.
    verdict = 0
    with distributed.fail_together():
        if distributed.rank() == 0 and run_folder.finished(folder, digest):
            verdict = int(model_folder.exists(folder / "model"))
            if not verdict:
                print(
                    f"WARNING: the run in {folder} has finished, but its model is gone; it is made anew from the newest"
                    " checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
    return bool(distributed.broadcast(verdict))


def _save_model(config: TrainingStage, model: Model, trainer: Trainer, digest: str) -> None:
    """Write the model folder from the averaged weights, or the best of them, and finish the run."""
    with distributed.fail_together():
        if distributed.rank() != 0:
            return
        network = trainer.trained_network()
        replace(model, network=merged(network)).save(config.output / "model")
        summary = {"steps": trainer.step, "parameters": _num_parameters(network)}
        run_folder.finish(config.output, digest, summary)


def build_trainer(
    config: TrainingStage, model: Model, mixture: Mixture, meter: ThroughputMeter, tracker: Tracker
) -> Trainer:
    """A trainer of a model's network, at step 0, with its files in the run's folder."""
    loop = config.loop
    accumulation = config.accumulation(distributed.world())
    rows = share_rows(model, mixture, config.engine.row_processes)
    members = share_members(model.network, config.loss.num_members, config.engine.member_processes)
    engine = config.engine.build(
        model.network, config.optimizer.build(model.network), loop.micro_batch, accumulation
    )
    layouts = [dataset.layout for dataset in mixture.datasets]
    record: dict[str, Any] = {}
    if distributed.rank() == 0:
        record = {**surroundings(), **config.engine.rounding(), "config": config.model_dump(mode="json")}
    return Trainer(
        loop,
        config.schedule,
        engine,
        config.completed(build_objective(config, model, layouts, rows, members), mixture),
        LossGuard(config.guard, mixture.datasets, config.output / "skipped.jsonl"),
        meter,
        tracker,
        config.output / "checkpoints",
        seed=config.seed,
        record=record,
    )


def build_objective(
    config: TrainingStage,
    model: Model,
    layouts: Sequence[Layout],
    rows: Mapping[str, RowLayout] | None = None,
    members: SharedMembers = ALONE,
) -> Objective:
    """What a model's network is trained to do on datasets with these layouts, of which a process may have a part."""
    rows = rows or {}
    losses = {
        layout.dataset: config.loss.build(layout, rows.get(layout.dataset, WHOLE)) for layout in layouts
    }
    constraints = {
        layout.dataset: model_folder.constrained_step(
            model.constraints, model.domains[layout.dataset], layout
        )
        for layout in layouts
        if model.constraints
    }
    return config.objective.build(model.signature, losses, constraints, rows, members)


def _meter(config: TrainingStage, model: Model, mixture: Mixture) -> ThroughputMeter:
    if distributed.rank() != 0:
        return ThroughputMeter({}, config.objective, peak=1.0)  # only rank 0 reports
    layouts = [dataset.layout for dataset in mixture.datasets]
    sizes = config.loop.micro_batch, config.loss.num_members
    flops = network_cost(model.network, model.signature, layouts, *sizes).flops
    return ThroughputMeter(
        flops,
        config.objective,
        peak=config.loop.peak_flops,
        dtype=config.engine.dtype,
        share=1 / config.engine.domain,
    )


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
