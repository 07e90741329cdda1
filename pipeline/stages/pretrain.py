"""Pretraining: one network on a mixture of stores and simulations, over any number of processes."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from pelagos.models.losses import LossConfig
from pelagos.models.networks.network import NetworkConfig
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.model_folder import Derived, Domain, Model, Scale, signature_of
from pelagos.pipeline.tracking.code_version import provenance
from pelagos.pipeline.tracking.tracker import Tracker, TrackingConfig
from pelagos.pipeline.training.loss_guard import Guard, GuardConfig
from pelagos.pipeline.training.network_cost import outline
from pelagos.pipeline.training.objective import ObjectiveConfig
from pelagos.pipeline.training.optimizer import OptimizerConfig
from pelagos.pipeline.training.schedule import ScheduleConfig
from pelagos.pipeline.training.throughput import Meter
from pelagos.pipeline.training.trainer import LoopConfig, Trainer
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, StoppedError
from pelagos.preprocessing.location import Folder, Url
from pelagos.preprocessing.online.online_dataset import DataConfig
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture, Order, Sweep
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.window_sampling import RolloutSampling
from pelagos.preprocessing.store.store import Store, open_store

NEUTRAL: dict[str, Any] = {
    "output": True,
    "name": True,
    "threads": True,
    "tracking": True,
    "engine": {"zero_stage"},
    "data": {"__all__": {"producers", "ahead"}, "producers": True, "ahead": True},
    "loop": {
        "checkpoint_every",
        "keep",
        "background_save",
        "damaged",
        "ledger",
        "log_every",
        "loader",
        "peak_flops",
        "stalled_after",
    },
}
"""What may change when a run is continued: nothing of it has an effect on what is learnt."""


class TrainingStage(Config):
    """What pretraining and fine-tuning have in common.

    Attributes:
        output: folder of checkpoints, metrics, and, at the end, the `model`.
        name: of the run, by default the folder's.
        seed: of initial weights and of the order of samples.
        threads: of the processor for each process; 0 leaves it to the launcher.
    """

    output: Folder
    name: str = ""
    seed: int = Field(default=0, ge=0)
    loop: LoopConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    engine: EngineConfig = EngineConfig()
    loss: LossConfig = LossConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    guard: GuardConfig = GuardConfig()
    tracking: TrackingConfig = TrackingConfig()
    threads: int = Field(default=0, ge=0)

    @property
    def sources(self) -> "tuple[DataConfig, ...]":
        """Where samples come from."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _simulations_fit(self) -> Self:
        online = [data for data in self.sources if data.kind == "online"]
        if online and self.loop.loader.processes:
            raise ValueError(
                "loop.loader.processes is for stores: simulated trajectories are read in threads"
            )
        if small := [data.reservoir for data in online if data.reservoir < self.loop.blocks]:
            raise ValueError(
                f"data: a reservoir of {small[0]} trajectories for the {self.loop.blocks} micro-batches of a step; at"
                " least one for each, better dozens, would be right"
            )
        return self


class PretrainStage(TrainingStage):
    """A network, the data that it learns from, and how.

    Attributes:
        data: stores, or simulations that run beside training, with weights and what makes a sample.
        temperature: shares of datasets go with (weight and) their number of samples to the power 1 / temperature.
        normalization: whether each dataset has its own scales, or all share one for each variable.
        conditions: what the network is told of each sample beside the stores' own scalars.
    """

    command: Literal["pretrain"] = "pretrain"
    network: NetworkConfig
    data: tuple[DataConfig, ...] = Field(min_length=1)
    temperature: float = Field(default=1.0, gt=0)
    normalization: Literal["dataset", "pooled"] = "pooled"
    conditions: tuple[Derived, ...] = ()

    @property
    def sources(self) -> tuple[DataConfig, ...]:
        """See TrainingStage."""
        return self.data

    @model_validator(mode="after")
    def _datasets_differ(self) -> "PretrainStage":
        paths = [data.path for data in self.data if data.kind == "store"]
        if len(set(paths)) < len(paths):
            raise ValueError("data: a store is named twice")
        return self


def run(config: PretrainStage) -> Path:
    """Pretrain, or continue where an interrupted run of the same folder was; returns the model's folder."""
    digest = prepare(config, stores_of(config))
    model, mixture = assemble(config)
    with closing(mixture):
        return train(config, model, mixture, digest, "pretrain")


def assemble(config: PretrainStage) -> tuple[Model, Mixture]:
    """The untrained network of a run, and its samples."""
    stores = open_sources(config)
    normalizer = Normalizer.pooled(stores) if config.normalization == "pooled" else None
    mixture = mixture_of(config, stores, normalizer, config.temperature)
    signature = signature_of([dataset.layout for dataset in mixture.datasets], config.conditions)
    network = config.network.build(signature)
    domains = {dataset.layout.dataset: domain_of(dataset) for dataset in mixture.datasets}
    history = {"pretrained": config.model_dump(mode="json")}
    return Model(config.network, network, signature, domains, history), mixture


def stores_of(config: TrainingStage) -> list[Path | Url]:
    """The paths of all stores that a run reads."""
    return [data.path for data in config.sources if data.kind == "store"]


def prepare(config: TrainingStage, stores: Sequence[Path | Url]) -> str:
    """Join the process group, seed, and claim the run folder; returns the run's fingerprint."""
    distributed.start()
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    digest = run_folder.fingerprint(config, *(store_fingerprint(path) for path in stores), neutral=NEUTRAL)
    with distributed.together():
        if distributed.rank() == 0:
            run_folder.claim(config.output, config, digest)
    return digest


def store_fingerprint(path: Path | Url) -> str:
    """Changes when the content of a store does."""
    return hashlib.sha256((open_store(path).path / "zarr.json").read_bytes()).hexdigest()


def open_sources(config: TrainingStage) -> list[Store]:
    """The stores of a run, and what stands for them of its simulations.

    Raises:
        ConfigError: a simulation has the name of another dataset.
        PelagosError: a store cannot be opened, or a trajectory not be simulated.
    """
    config.loop.accumulation(distributed.world())
    # Stores first: a simulation takes time.
    opened = {n: data.store() for n, data in enumerate(config.sources) if data.kind == "store"}
    names = [
        opened[n].dataset if data.kind == "store" else data.name for n, data in enumerate(config.sources)
    ]
    for data, name in zip(config.sources, names, strict=True):
        if data.kind == "online" and names.count(name) > 1:
            raise ConfigError(
                f"data: two datasets are called {name}: give the simulation another name by simulation.dataset"
            )
    return [opened[n] if n in opened else data.store() for n, data in enumerate(config.sources)]


def mixture_of(
    config: TrainingStage, stores: Sequence[Store], normalizer: Normalizer | None, temperature: float = 1.0
) -> Mixture:
    """The order of the training samples of opened stores, by their own statistics without a normaliser."""
    loop = config.loop
    return Mixture(
        [
            data.samples(store, normalizer or Normalizer.of(store))
            for data, store in zip(config.sources, stores, strict=True)
        ],
        weights=[data.weight for data in config.sources],
        batch_size=loop.batch_size,
        micro_batch=loop.micro_batch,
        temperature=temperature,
        seed=config.seed,
    )


def domain_of(dataset: Dataset) -> Domain:
    """What a model has to know of a dataset that it was trained on."""
    scales = {}
    for normalizer in (dataset.input_normalizer, dataset.output_normalizer):
        for key, mean, std in zip(normalizer.keys, normalizer.mean, normalizer.std, strict=True):
            scales[key] = Scale(mean=float(mean), std=float(std))
    layout = dataset.layout
    return Domain(
        inputs=layout.inputs,
        outputs=layout.outputs,
        scales=scales,
        scalars=layout.scalars,
        time_scale=layout.time_scale,
    )


def train(config: TrainingStage, model: Model, mixture: Mixture, digest: str, title: str) -> Path:
    """Train a model's network on a mixture and keep it; returns its folder, `output/model`."""
    folder = config.output / "model"
    rank = distributed.rank()
    name = config.name or config.output.name
    if run_folder.finished(config.output, digest):
        if rank == 0:
            config.tracking.catch_up(name, config.output)
        return folder
    loop = config.loop
    with distributed.together():
        tracker = config.tracking.build(name, config.output, active=rank == 0)
        tracker.params(config.model_dump(mode="json"))
        meter = _meter(config, model, mixture)
    tracker.params({"peak_flops": meter.peak, "peak_flops_from": "matmul" if meter.measured else "given"})
    trainer = trainer_of(config, model, mixture, meter, tracker)
    trainer.resume(digest)
    try:
        trainer.run(mixture, held_out(mixture, loop), digest, title)
    except StoppedError:
        tracker.close("KILLED")
        raise
    with distributed.together(), trainer.average.network() as network:
        if rank == 0:
            if loop.kept == "best":
                network = deepcopy(network)
                network.load_state_dict(trainer.best.weights)
            replace(model, network=network).save(folder)
            run_folder.finish(config.output, digest, {"steps": trainer.step, "parameters": _size(network)})
    tracker.close()
    distributed.barrier()
    return folder


def trainer_of(
    config: TrainingStage, model: Model, mixture: Mixture, meter: Meter, tracker: Tracker
) -> Trainer:
    """A trainer of a model's network, at step 0, that keeps its files in the run's folder."""
    loop = config.loop
    accumulation = loop.accumulation(distributed.world())
    engine = config.engine.build(
        model.network, config.optimizer.build(model.network), loop.micro_batch, accumulation
    )
    losses = {dataset.layout.dataset: config.loss.build(dataset.layout) for dataset in mixture.datasets}
    record = {**provenance(), "config": config.model_dump(mode="json")} if distributed.rank() == 0 else {}
    return Trainer(
        loop,
        config.schedule,
        engine,
        config.objective.build(model.signature, losses),
        Guard(config.guard, mixture.datasets, config.output / "skipped.jsonl"),
        meter,
        tracker,
        config.output / "checkpoints",
        seed=config.seed,
        record=record,
    )


def _meter(config: TrainingStage, model: Model, mixture: Mixture) -> Meter:
    if distributed.rank() != 0:
        return Meter({}, config.objective, peak=1.0)  # only rank 0 reports
    layouts = [dataset.layout for dataset in mixture.datasets]
    flops = outline(model.network, model.signature, layouts, config.loop.micro_batch).flops
    return Meter(flops, config.objective, peak=config.loop.peak_flops, dtype=config.engine.dtype)


def held_out(mixture: Mixture, loop: LoopConfig) -> dict[str, Order]:
    """Bounded, fixed sets of samples of each dataset that has a validation split, by the name of their score.

    Raises:
        ConfigError: trajectories are too short for the rollouts asked for, or the choice of weights has no scores.
    """
    present = [dataset for dataset in mixture.datasets if dataset.store.splits["valid"].any()]
    if not present and (loop.patience or loop.kept == "best"):
        raise ConfigError(
            "loop.patience and loop.kept=best need held-out samples: no store has a valid split"
        )
    orders: dict[str, Order] = {}
    if present:
        orders["valid"] = Sweep([_validating(dataset, loop) for dataset in present], loop.micro_batch)
    evolving = [dataset for dataset in present if dataset.store.num_times > 1]
    if evolving and loop.validation_rollout:
        orders["valid_rollout"] = Sweep([_rolling(dataset, loop) for dataset in evolving], loop.micro_batch)
    return orders


def _rolling(dataset: Dataset, loop: LoopConfig) -> Dataset:
    lead = dataset.config.sampling.spacing
    return _validating(dataset, loop, sampling=RolloutSampling(steps=loop.validation_rollout, lead=lead))


def _validating(dataset: Dataset, loop: LoopConfig, **changes: Any) -> Dataset:
    fixed = {"split": "valid", "limit": loop.validation_samples, "num_trajectories": None}
    return Dataset(dataset.store, dataset.config.model_copy(update=fixed | changes), dataset.normalizer)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
