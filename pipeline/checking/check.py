"""Check: what a training run will read, compute and need, before it waits in a queue."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from pelagos.pipeline.checking.assembled_run import AssembledRun
from pelagos.pipeline.checking.check_finding import CheckFinding, bytes_text
from pelagos.pipeline.checking.gpu_check import gpu_findings
from pelagos.pipeline.checking.gpu_target import GpuTarget
from pelagos.pipeline.checking.rehearsal import Rehearsal, RunCost, rehearse
from pelagos.pipeline.checking.run_concerns import run_concerns
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.runs.configuration import dump
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.runs.remarks import once
from pelagos.pipeline.training.held_out import held_out_orders
from pelagos.pipeline.training.network_cost import NetworkCost, network_cost
from pelagos.pipeline.training.shared_members import check_members
from pelagos.pipeline.training.shared_rows import shared_units
from pelagos.pipeline.training.trainer import receivers
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError, MissingFileError
from pelagos.preprocessing.online.online_dataset import OnlineDataset
from pelagos.preprocessing.safety.trust import require_trust
from pelagos.preprocessing.samples.data_concerns import concerns
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.variables import keys

_GRID_ERRORS = (ArithmeticError, RuntimeError, ValueError)
"""Errors of networks where a grid, or a device, does not suit them."""


def report(config: Config, found: Iterable[CheckFinding], *, as_json: bool) -> None:
    """Print a resolved configuration and, as YAML comments below it, what is found; or all of it as JSON.

    Args:
        config: the configuration of any command.
        found: printed as it comes, as JSON once all of it has.
        as_json: whether to print JSON.

    Raises:
        PelagosError: the command would fail.
    """
    prints = distributed.rank() == 0
    if prints and not as_json:
        print(dump(config), end="")
    seen = []
    # A rehearsal assembles the run once more.
    with once():
        for finding in found:
            seen.append(finding)
            if prints and not as_json:
                print(f"# {finding}", flush=True)
    if prints and as_json:
        print(json.dumps(record(config, seen), indent=1))


def record(config: Config, found: Sequence[CheckFinding]) -> dict[str, Any]:
    """What a check prints as JSON; its keys are described in docs/training.md and stay."""
    return {
        "configuration": config.model_dump(mode="json"),
        "findings": [{"about": one.about, "text": one.text, **one.values} for one in found],
        "warnings": [one.text for one in found if one.about == "WARNING"],
    }


def findings(
    config: TrainingStage, processes: int, *, deep: bool, target: GpuTarget | None = None
) -> Iterator[CheckFinding]:
    """What is known of a training run, whose folder is left alone.

    Args:
        config: the run.
        processes: the number of processes that the run will have; at least those of a launcher, such as torchrun.
        deep: whether to take two steps as well.
        target: GPUs to estimate the run for, a process on each.

    Raises:
        PelagosError: the run would fail.
        ConfigError: steps are to be taken by fewer processes than share a sample.
    """
    config, *others = config.runs()
    if others:
        yield CheckFinding(
            "seeds",
            f"{1 + len(others)} runs, the first in {config.output}; what follows is of one of them",
            {"runs": 1 + len(others)},
        )
    if deep and distributed.world() % config.engine.domain:
        domain, world = config.engine.domain, distributed.world()
        raise ConfigError(
            f"engine.domain: {domain} processes share each sample, and --deep takes its steps with those that run,"
            f" which are {world}; start it in a multiple of {domain}: torchrun --nproc-per-node {domain} -m"
            " pelagos.pipeline check --deep CONFIG"
        )
    # Those of one group at the least.
    least = max(processes, distributed.world(), config.engine.domain)
    processes = target.gpus if target else least
    # Whoever checks a configuration, perhaps another's, has not yet decided to run it.
    require_trust(config.model_dump(mode="json"), "the configuration", "a check runs nothing of it")
    accumulation = config.accumulation(processes)
    dealt_to = receivers(config.engine.groups(processes), config.engine.domain)
    present, missing = config.available()
    if deep and missing:
        raise MissingFileError(f"{missing[0]}; a step can be taken when it does")
    yield from (CheckFinding("note", f"{note}; what follows is without it") for note in missing)
    yield CheckFinding(
        "batch",
        f"{config.loop.batch_size} samples per optimiser step, in micro-batches of"
        f" {config.loop.micro_batch}: {accumulation} on each of {dealt_to}",
        {"micro_batches": accumulation, "processes": processes},
    )
    if present is None:
        return
    run = assembled_run(present)
    mixture = run.mixture
    with closing(mixture):
        for line in run.opening:
            about, _, text = line.partition(": ")
            yield CheckFinding(about, text)
        if not missing:
            # Fails now where the run would at its first validation.
            held_out_orders(mixture, config.loop)
        cost = RunCost(mixture, run.cost.flops, config.loop.steps, config.objective)
        yield from _describe_run(config, run, cost, processes)
        yield from run_concerns(config, mixture)
        if target is not None:
            yield from gpu_findings(config, run, cost, target)
    if deep:
        found = rehearse(present, cost, processes)
        yield from _describe_rehearsal(config, processes, found)
        yield from _describe_production(config, mixture, processes, found)


def assembled_run(config: TrainingStage) -> AssembledRun:
    """A run as it is before its first step, and what its network costs.

    Raises:
        PelagosError: there is no such network, or no such samples.
        DataError: the network cannot take a dataset's grid.
    """
    try:
        return _assembled_run(config, "meta")
    except _GRID_ERRORS:
        # A network that looks at values cannot be called without any. With values, an error is a real one.
        return _assembled_run(config, "cpu")


def _assembled_run(config: TrainingStage, device: str) -> AssembledRun:
    # On the meta device weights have shapes and no memory, so that a network of any size can be counted anywhere.
    with TemporaryDirectory(prefix="pelagos-check-") as folder, torch.device(device):
        elsewhere = config.model_copy(update={"output": Path(folder)})
        model, mixture = elsewhere.assemble()
        opening = elsewhere.opening_lines()
    # The caller closes the mixture, once it has it.
    with ExitStack() as unless_done:
        unless_done.callback(mixture.close)
        counted = _counted_cost(config, model, mixture, device)
        unless_done.pop_all()
    groups = tuple(config.optimizer.parameter_groups(model.network))
    return AssembledRun(model, mixture, counted, groups, tuple(opening))


def _counted_cost(config: TrainingStage, model: Model, mixture: Mixture, device: str) -> NetworkCost:
    engine = config.engine
    shared_units(model, mixture, engine.row_processes)  # raises where rows cannot be shared
    check_members(model.network, config.loss.num_members, engine.member_processes)  # or members
    network = model.network.to(device)
    flops: dict[str, float] = {}
    for dataset in mixture.datasets:
        layout = dataset.layout
        config.loss.build(layout)  # raises where a loss does not suit the dataset
        try:
            sizes = config.loop.micro_batch, config.loss.num_members
            counted = network_cost(network, model.signature, [layout], *sizes)
        except _GRID_ERRORS as error:
            height, width = layout.grid.shape
            raise DataError(
                f"dataset {layout.dataset} ({dataset.store.label}): the network cannot take its grid of"
                f" {height} x {width}: {error}"
            ) from error
        flops |= counted.flops
    return NetworkCost(counted.parameters, flops)


def _describe_run(
    config: TrainingStage, run: AssembledRun, cost: RunCost, processes: int
) -> Iterator[CheckFinding]:
    mixture, counted = run.mixture, run.cost
    for dataset, share in zip(mixture.datasets, mixture.shares, strict=True):
        yield _describe_data(dataset, int(share))
    yield from (_describe_augmentation(dataset) for dataset in mixture.datasets)
    for dataset in mixture.datasets:
        outputs = dataset.layout.outputs
        left_out = frozenset(outputs[channel].key for channel in config.loss.left_out(dataset.layout))
        found = concerns(dataset.store, dataset.normalizer, outputs, left_out)
        yield from (CheckFinding("data", f"{dataset.layout.dataset}: {concern}") for concern in found)
    for dataset, rate in _rates(config, mixture):
        yield _describe_simulation(dataset, rate, config.loop.steps, processes)
    # Epochs of the mixture, of which small datasets may see several, or a part.
    epochs = config.loop.steps / mixture.steps_per_epoch
    yield CheckFinding(
        "epoch",
        f"{mixture.shares.sum()} samples, {mixture.steps_per_epoch:.1f} steps;"
        f" the run's {config.loop.steps} steps are {epochs:.2f} epochs",
        {
            "samples": int(mixture.shares.sum()),
            "steps": float(mixture.steps_per_epoch),
            "epochs": float(epochs),
        },
    )
    yield CheckFinding("network", f"{counted.parameters} parameters", {"parameters": counted.parameters})
    yield from (CheckFinding("optimizer", str(group)) for group in run.groups)
    flops = config.loop.batch_size * cost.mean
    yield CheckFinding(
        "arithmetic",
        f"{flops:.3g} floating-point operations per step, over all processes, mean of the run",
        {"operations": float(flops)},
    )


def _describe_data(dataset: Dataset, share: int) -> CheckFinding:
    (height, width), layout = dataset.layout.grid.shape, dataset.layout
    where = f"in its split {dataset.config.split}"
    if isinstance(dataset, OnlineDataset):
        where = f"in its reservoir of {dataset.online.reservoir} trajectories"
    return CheckFinding(
        "data",
        f"{dataset.store.label}: {dataset.num_samples} samples {where},"
        f" {share} an epoch, {height} x {width}, {len(layout.channels)} channels in and {len(layout.outputs)} out",
        {
            "dataset": layout.dataset,
            "samples": dataset.num_samples,
            "samples_per_epoch": share,
            "shape": [height, width],
            "inputs": list(keys(layout.channels)),
            "outputs": list(keys(layout.outputs)),
        },
    )


def _describe_augmentation(dataset: Dataset) -> CheckFinding:
    found, name = dataset.augmentation, dataset.layout.dataset
    names = list(found.names) if found else []
    return CheckFinding(
        "augmentation",
        f"{name}: {found.describe() if found else 'none'}",
        {"dataset": name, "transformations": names},
    )


def _describe_simulation(dataset: OnlineDataset, rate: float, steps: int, processes: int) -> CheckFinding:
    online = dataset.online
    # Of the process with the most: lanes are dealt as evenly as they go.
    held = -(-online.reservoir // processes) + online.coming + online.valid
    size = dataset.trajectory_bytes * held
    return CheckFinding(
        "simulation",
        f"a new trajectory for every {dataset.uses} samples of {dataset.layout.dataset},"
        f" {rate * steps:.0f} in the run beside the {online.reservoir} of the reservoir; a process"
        f" holds {held}, with those ahead and held out, in {bytes_text(size)}",
        {"dataset": dataset.layout.dataset, "trajectories": rate * steps, "bytes": int(size)},
    )


def _describe_rehearsal(config: TrainingStage, processes: int, found: Rehearsal) -> Iterator[CheckFinding]:
    height, width = found.dataset.layout.grid.shape
    yield CheckFinding(
        "worst case",
        f"dataset {found.dataset.layout.dataset}, {height} x {width},"
        f" {found.calls} forecast step(s) of {config.loop.micro_batch} samples",
        {"dataset": found.dataset.layout.dataset, "forecast_steps": found.calls},
    )
    if processes > distributed.world():
        yield CheckFinding(
            "note",
            f"one process did the share of one of {processes}: communication is not in the time,"
            " nor what ZeRO saves in the memory",
        )
    yield CheckFinding(
        "peak memory", f"{bytes_text(found.memory)} of a process on the host", {"bytes": found.memory}
    )
    if found.reserved:
        total = torch.cuda.get_device_properties(distributed.device()).total_memory
        yield CheckFinding(
            "peak GPU memory",
            f"{bytes_text(found.allocated)} of tensors, {bytes_text(found.reserved)} reserved, of"
            f" {bytes_text(total)}",
            {"bytes": found.allocated, "reserved_bytes": found.reserved, "total_bytes": total},
        )
    yield CheckFinding(
        "step time",
        f"{found.seconds:.3g} s, with the data read and the weights updated",
        {"seconds": found.seconds},
    )
    typical, most = (_duration_text(seconds) for seconds in (found.typical, found.most))
    yield CheckFinding(
        "wall time",
        f"about {typical} for {config.loop.steps} steps by the datasets' shares of the arithmetic,"
        f" {most} if every step were the worst; validations not counted",
        {"seconds": found.typical, "most_seconds": found.most},
    )
    yield CheckFinding(
        "checkpoint",
        f"{bytes_text(found.checkpoint)}, of which the run keeps {config.loop.keep}",
        {"bytes": found.checkpoint},
    )


def _rates(config: TrainingStage, mixture: Mixture) -> Iterator[tuple[OnlineDataset, float]]:
    """Each simulation, and the number of new trajectories that a step needs of it."""
    for dataset, share in zip(mixture.datasets, mixture.shares, strict=True):
        if isinstance(dataset, OnlineDataset):
            yield dataset, config.loop.batch_size * float(share / mixture.shares.sum()) / dataset.uses


def _describe_production(
    config: TrainingStage, mixture: Mixture, processes: int, found: Rehearsal
) -> Iterator[CheckFinding]:
    step = found.typical / config.loop.steps
    for dataset, rate in _rates(config, mixture):
        done = dataset.production()
        # Of the trajectories for validation and statistics, which are simulated in any case.
        each = done.seconds / done.simulated
        needed = rate * each / step / processes
        yield CheckFinding(
            "producers",
            f"{each:.3g} s per trajectory of {dataset.layout.dataset}, so that {needed:.2g} for each process"
            f" keep up with training; there are {dataset.online.producers}",
            {"dataset": dataset.layout.dataset, "seconds": each, "needed": needed},
        )


def _duration_text(seconds: float) -> str:
    # Rounded up: an estimate of 0 s would look like an error.
    return str(timedelta(seconds=int(np.ceil(seconds))))
