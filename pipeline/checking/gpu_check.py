"""GPU check: what a training run would take of GPUs that need not be there."""

from collections.abc import Iterable, Iterator

from pydantic import ValidationError
from torch import Tensor

from pelagos.pipeline.checking.assembled_run import AssembledRun
from pelagos.pipeline.checking.check_finding import CheckFinding
from pelagos.pipeline.checking.gpu_estimates import GpuEstimates
from pelagos.pipeline.checking.gpu_plan import GpuPlan
from pelagos.pipeline.checking.gpu_target import GpuTarget
from pelagos.pipeline.checking.rehearsal import RunCost
from pelagos.pipeline.checking.step_work import can_checkpoint, checkpoints, step_work
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.engine.zero import largest_layer
from pelagos.pipeline.runs.commands import command_of_class
from pelagos.pipeline.training.shared_members import check_members
from pelagos.pipeline.training.shared_rows import shared_units
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.errors import ConfigError

_VALUES = (ArithmeticError, NotImplementedError, RuntimeError, ValueError)
"""Errors of a network or loss that looks at values, where there are none."""


def gpu_findings(
    config: TrainingStage, run: AssembledRun, cost: RunCost, target: GpuTarget
) -> Iterator[CheckFinding]:
    """Bytes, times and rates of a run on GPUs, at every ZeRO stage, and what would fit.

    Args:
        config: the run.
        run: the same, assembled; its network becomes one without values.
        cost: of its samples.
        target: the GPUs.
    """
    try:
        plan = gpu_plan(config, run, cost, target)
    except _VALUES as error:
        yield CheckFinding(
            "note",
            f"what a step takes of a GPU is not known: network or loss look at values, of which there are none here"
            f" ({type(error).__name__}: {error})",
        )
        return
    yield from plan.findings()
    yield from GpuEstimates(plan, run.mixture, cost, command_of_class(type(config))).findings()


def gpu_plan(config: TrainingStage, run: AssembledRun, cost: RunCost, target: GpuTarget) -> GpuPlan:
    """What the most expensive samples of a run take of each GPU.

    Raises:
        RuntimeError: the network or the loss looks at values.
    """
    network, dataset = run.model.network, run.mixture.datasets[cost.worst]
    for group in run.groups:
        if not group.rate:
            for parameter in group.parameters.values():
                parameter.requires_grad_(False)
    as_configured = checkpoints(network)
    switches = (False, True) if can_checkpoint(network) else (as_configured,)
    trained = sum(one.numel() for one in network.parameters() if one.requires_grad)
    frozen = _bytes(one for one in network.parameters() if not one.requires_grad)
    work = {switch: step_work(config, run.model, dataset, cost.calls, switch) for switch in switches}
    domains = tuple(_domains(config, run, target))
    return GpuPlan(
        config,
        target,
        trained,
        frozen,
        _bytes(network.buffers()),
        work,
        as_configured,
        domains,
        largest_layer(network),
    )


def _domains(config: TrainingStage, run: AssembledRun, target: GpuTarget) -> Iterator[int]:
    """Numbers of GPUs that could share a sample, beyond the one that is configured."""
    for domain in (2, 4, 8):
        groups = target.gpus // domain
        if domain <= config.engine.domain or target.gpus % domain or config.loop.blocks % groups:
            continue
        try:
            shared = EngineConfig(domain=domain, shared=config.engine.shared, compile=config.engine.compile)
            shared_units(run.model, run.mixture, shared.row_processes)
            check_members(run.model.network, config.loss.num_members, shared.member_processes)
        except (ConfigError, ValidationError):
            continue  # compiled, by this network, of this grid, or of so many members
        yield domain


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
