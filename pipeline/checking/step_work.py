"""Step work: what the forward and backward pass of a micro-batch take of a GPU, found by pretending to do them."""

from copy import deepcopy
from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor, nn

from pelagos.pipeline.checking.pretended_backward import pretended_backward
from pelagos.pipeline.checking.pretended_gpu import WorkMeter, pretended_gpu
from pelagos.pipeline.engine.weight_conversion import converted_once, matrices
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.training.training_run import TrainingStage, build_objective
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.samples.dataset import Dataset

_FIELDS = ("inputs", "targets", "mask", "forcings")
"""The large parts of a batch."""


@dataclass(frozen=True)
class MicroBatchWork:
    """What one micro-batch takes, beside the weights and their gradients.

    Attributes:
        activations: what lives between the passes: saved for the backward pass, the batch and the next one, weights in
            bf16 [bytes].
        peak: the most that lives at once [bytes].
        flops: operations, those that checkpointing repeats among them.
        kernels: that are launched, about.
    """

    activations: float
    peak: float
    flops: float
    kernels: float


@dataclass(frozen=True)
class StepWork:
    """The same for any number of samples, between and beyond two that were looked at.

    Attributes:
        samples: the two numbers.
        found: what they take.
    """

    samples: tuple[int, int]
    found: tuple[MicroBatchWork, MicroBatchWork]

    def of(self, samples: int) -> MicroBatchWork:
        """What so many samples take: every part grows in proportion to them, beside one that is always there."""
        (few, many), (less, more) = self.samples, map(astuple, self.found)
        return MicroBatchWork(
            *(one + (two - one) / (many - few) * (samples - few) for one, two in zip(less, more, strict=True))
        )

    @property
    def constant(self) -> float:
        """Activations whatever the number of samples: casts of weights, position biases [bytes]."""
        return self.of(0).activations


def step_work(
    config: TrainingStage, model: Model, dataset: Dataset, steps: int, checkpointing: bool
) -> StepWork:
    """What micro-batches of a dataset take in training.

    Args:
        config: the run.
        model: its network may be on the meta device.
        dataset: that samples are of.
        steps: forecast steps of a sample.
        checkpointing: whether blocks are recomputed in the backward pass.

    Raises:
        RuntimeError: the network or the loss looks at values, of which there are none.
    """
    # The configured number is one of both, so that what is said of it is not extrapolated.
    samples = (1, config.loop.micro_batch if config.loop.micro_batch > 1 else 2)
    with pretended_gpu() as device:
        network = without_values(model.network, device).train()
        if config.engine.weights == "bfloat16":
            _lower(network)
        switch_checkpointing(network, checkpointing)
        pretended = replace(model, network=network)
        found = [_work(config, pretended, _batch(dataset, number, steps, device)) for number in samples]
    return StepWork(samples, (found[0], found[1]))


def can_checkpoint(network: nn.Module) -> bool:
    """Whether a network can recompute blocks instead of storing what is in them."""
    return any(isinstance(getattr(part, "checkpointing", None), bool) for part in network.modules())


def checkpoints(network: nn.Module) -> bool:
    """Whether a network does so."""
    return any(getattr(part, "checkpointing", None) is True for part in network.modules())


def switch_checkpointing(network: nn.Module, on: bool) -> None:
    """Have a network recompute blocks in the backward pass, or store what is in them."""
    for part in network.modules():
        if isinstance(getattr(part, "checkpointing", None), bool):
            part.checkpointing = on  # type: ignore[assignment]
        # Networks also ask their configuration, which is frozen.
        config = getattr(part, "config", None)
        if isinstance(config, Config) and hasattr(config, "checkpointing"):
            part.config = config.model_copy(update={"checkpointing": on})  # type: ignore[assignment]


def without_values(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy on the pretended device."""
    copies: dict[int, Tensor] = {
        id(one): nn.Parameter(torch.empty_like(one, device=device), one.requires_grad)
        for one in network.parameters()
    }
    copies |= {id(one): torch.empty_like(one, device=device) for one in network.buffers()}
    return deepcopy(network, copies)


def _lower(network: nn.Module) -> None:
    """Have a network compute with matrices in bf16, whose copies count as model states."""
    for weight in list(matrices(network)):
        weight.data = torch.empty_like(weight, dtype=torch.bfloat16)
        weight.grad_dtype = torch.float32


def _work(config: TrainingStage, model: Model, batch: Batch) -> MicroBatchWork:
    weights = list(model.network.parameters())
    objective = build_objective(config, model, [batch.layout])
    for weight in weights:
        if weight.requires_grad:
            # They are there all the time, as in the engine up to ZeRO 1; at others its buffers are counted apart.
            weight.grad = torch.empty_like(weight, dtype=torch.float32)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    with WorkMeter() as meter:
        for held in (*weights, *gradients, *model.network.buffers()):
            meter.leave_out(held)
        # The next batch is brought to the device meanwhile.
        ahead = [torch.empty_like(getattr(batch, name)) for name in _FIELDS]
        for name in _FIELDS:
            meter.count(getattr(batch, name))
        bf16 = config.engine.dtype == torch.bfloat16
        # As the engine does up to ZeRO 2; at 3, where it converts anew in each pass, this counts a little too much.
        with converted_once():
            with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=bf16):
                loss: Tensor = objective.training(model.network, batch)[0]
            activations = meter.now
            pretended_backward(loss)
        del ahead
        return MicroBatchWork(activations, meter.peak, meter.flops, meter.kernels)


def _batch(dataset: Dataset, samples: int, steps: int, device: torch.device) -> Batch:
    """Samples without values, in the shapes that the loader gives."""
    shapes, kind = dataset.shapes, dataset.sampling.kind
    targets = shapes.targets if kind == "pairs" else (steps, *shapes.targets[1:])
    # As many steps shorter as the rollout is for now.
    forcings = (max(shapes.forcings[0] - dataset.steps + steps, 0), *shapes.forcings[1:])
    return Batch(
        layout=dataset.layout,
        inputs=torch.empty(samples, *shapes.inputs, device=device),
        targets=torch.empty(samples, *targets, device=device),
        mask=torch.empty(samples, *targets, dtype=torch.bool, device=device),
        forcings=torch.empty(samples, *forcings, device=device),
        lead_time=torch.empty((samples, steps) if kind == "windows" else (samples,), device=device),
        scalars=torch.empty(samples, len(dataset.layout.scalars), device=device),
        index=torch.empty(samples, 3, dtype=torch.int64, device=device),
        kind=kind,
    )
