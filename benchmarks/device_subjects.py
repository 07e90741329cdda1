"""The networks of `make bench-device`, and a training step of each on any device."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pelagos.models.losses import LossConfig
from pelagos.models.networks.network import NetworkConfig
from pelagos.pipeline.checking.pretended_backward import pretended_backward
from pelagos.pipeline.checking.pretended_gpu import WorkMeter, pretended_gpu
from pelagos.pipeline.engine.engine import Engine, EngineConfig
from pelagos.pipeline.runs.model_folder import signature_of
from pelagos.pipeline.training.objective import Objective, ObjectiveConfig
from pelagos.pipeline.training.optimizer import OptimizerConfig
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.variables import Variable

WXFORMER: dict[str, Any] = {
    "kind": "wxformer",
    "dims": (128, 256, 512, 1024),
    "depths": (2, 2, 8, 2),
    "local_window": 4,
    "global_window": (8, 4, 4, 2),
}


@dataclass(frozen=True)
class Subject:
    """A network, and the samples that it is trained on.

    Attributes:
        name: in the tables.
        network: its configuration.
        channels: of input and output.
        shape: rows and columns.
        micro_batch: samples of a pass.
    """

    name: str
    network: dict[str, Any]
    channels: int
    shape: tuple[int, int]
    micro_batch: int

    @property
    def layout(self) -> Layout:
        variables = tuple(Variable(name=f"v{n}", role="prognostic") for n in range(self.channels))
        y, x = (np.arange(float(size)) for size in self.shape)
        return Layout("d", variables, variables, Grid(kind="cartesian", y=y, x=x))

    def build(self) -> nn.Module:
        config: NetworkConfig = TypeAdapter(NetworkConfig).validate_python(self.network)
        return config.build(signature_of([self.layout]))

    def objective(self) -> Objective:
        losses = {"d": LossConfig().build(self.layout)}
        return ObjectiveConfig().build(signature_of([self.layout]), losses)

    def batch(self, device: torch.device) -> Batch:
        fields = torch.randn(2, self.micro_batch, self.channels, *self.shape, device=device)
        return Batch(
            layout=self.layout,
            inputs=fields[0],
            targets=fields[1],
            mask=torch.ones_like(fields[1], dtype=torch.bool),
            forcings=torch.empty(self.micro_batch, 0, 0, *self.shape, device=device),
            lead_time=torch.ones(self.micro_batch, device=device),
            scalars=torch.empty(self.micro_batch, 0, device=device),
            index=torch.zeros(self.micro_batch, 3, dtype=torch.int64),
        )

    def flops(self) -> int:
        """Operations of the forward and backward pass of a micro-batch."""
        with pretended_gpu() as device:
            with torch.device(device):
                network = self.build().train()
            with WorkMeter() as meter:
                pretended_backward(self.objective().training(network, self.batch(device))[0])
            return int(meter.flops)


def scot(name: str, embed_dim: int, depth: int, micro_batch: int, side: int = 128) -> Subject:
    network = {"kind": "scot", "embed_dim": embed_dim, "depths": (depth,) * 4}
    return Subject(name, network, 4, (side, side), micro_batch)


SMALL = Subject(
    "small scOT",
    {
        "kind": "scot",
        "embed_dim": 16,
        "depths": (2, 2),
        "num_heads": (2, 4),
        "skip_connections": (1, 0),
        "window_size": 4,
    },
    4,
    (32, 32),
    2,
)
"""For machines without a GPU."""
LARGE = (
    scot("scOT-T", 48, 4, 32),
    scot("scOT-B", 96, 8, 16),
    scot("scOT-L", 192, 8, 8),
    Subject("WXFormer", WXFORMER, 70, (256, 512), 2),
)


class OneProcessConfig(EngineConfig):
    """An engine at its own ZeRO stage even where a process has nobody to share with."""

    def stage(self, world: int) -> int:
        return self.zero_stage


@dataclass(frozen=True)
class Training:
    """A network in training.

    Attributes:
        engine: takes its steps.
        loss: of a micro-batch that stays.
    """

    engine: Engine
    loss: Callable[[nn.Module], Tensor]

    def step(self) -> None:
        self.engine.step([self.loss], lambda group: 1e-4)


def training(subject: Subject, device: torch.device, **engine: Any) -> Training:
    """A subject's network in training, with the engine's settings."""
    torch.manual_seed(0)
    with device:
        network = subject.build()
    config = OneProcessConfig.model_validate({"precision": "bf16", "zero_stage": 0, **engine})
    built = config.build(network, OptimizerConfig().build(network), subject.micro_batch, 1)
    objective, batch = subject.objective(), subject.batch(device)
    return Training(built, partial(_loss, objective, batch))


def _loss(objective: Objective, batch: Batch, network: nn.Module) -> Tensor:
    return objective.training(network, batch)[0]


@contextmanager
def recorded_dtypes(network: nn.Module, found: Counter[str]) -> Iterator[None]:
    """Count the types that linear and convolutional layers give, for as long as the context lasts."""

    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        device = output.device.type
        # On the CPU layers take bf16 only where it pays: what counts is that they may.
        allowed = device == "cpu" and torch.is_autocast_enabled(device)
        name = str(output.dtype).removeprefix("torch.")
        found[f"{name} (bf16 allowed)" if allowed else name] += 1

    layers = [part for part in network.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
