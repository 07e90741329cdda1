"""DeepSpeed behind step, save and load: the only user of deepspeed."""

import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pelagos.pipeline import distributed
from pelagos.preprocessing.config import Config

MOMENTS = ("exp_avg", "exp_avg_sq")


class EngineConfig(Config):
    """How training is spread over processes; DeepSpeed's own configuration follows from it.

    Attributes:
        zero_stage: 0 replicates everything, 1 shards the optimiser's moments over processes, 2 also
            the gradients.
        precision: `bf16` computes the forward pass under autocast; weights and moments stay float32.
        clip: largest norm of the gradient, 0 for no limit.
    """

    zero_stage: Literal[0, 1, 2] = 1
    precision: Literal["float32", "bf16"] = "float32"
    clip: float = Field(default=1.0, ge=0)

    def build(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, micro_batch: int, accumulation: int
    ) -> "Engine":
        """An engine over the processes of the started group."""
        return Engine(self, network, optimizer, micro_batch, accumulation)

    def deepspeed(self, micro_batch: int, accumulation: int) -> dict[str, Any]:
        """DeepSpeed's JSON."""
        return {
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": accumulation,
            "gradient_clipping": self.clip,
            "zero_optimization": {"stage": self.zero_stage},
            # The optimiser is torch's AdamW: DeepSpeed's own would be compiled at the first use.
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**62,
        }


@dataclass(frozen=True)
class StepInfo:
    """What one optimiser step reports: the loss is this process's mean, the norm is global."""

    loss: float
    grad_norm: float


class Engine:
    """Trains a network with DeepSpeed; states go in and out as whole tensors by parameter name.

    States are independent of the number of processes and of the ZeRO stage, and need no pickle,
    which is why DeepSpeed's own checkpoints are not used.
    """

    def __init__(
        self,
        config: EngineConfig,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        micro_batch: int,
        accumulation: int,
    ) -> None:
        self.config = config
        self.network = network.to(distributed.device())
        self.base = optimizer
        self._engine = _initialize(self.network, optimizer, config.deepspeed(micro_batch, accumulation))

    def step(
        self, losses: Iterable[Callable[[nn.Module], Tensor]], rate: Callable[[dict[str, Any]], float]
    ) -> StepInfo:
        """One optimiser step over the micro-batches whose losses are given.

        Args:
            losses: each computes the scalar loss of one micro-batch with the network that it is given;
                as many as the accumulation.
            rate: the learning rate of a parameter group.
        """
        for group in self.base.param_groups:
            group["lr"] = rate(group)
        total, count = 0.0, 0
        for loss_function in losses:
            with self.autocast():
                loss = loss_function(self._engine)
            self._engine.backward(loss)
            norm = self._replicated_norm() if self.config.zero_stage == 0 else None
            self._engine.step()
            total, count = total + float(loss.detach()), count + 1
        norm = norm if norm is not None else self._engine.get_global_grad_norm()
        return StepInfo(total / count, float(norm))

    def _replicated_norm(self) -> Tensor:
        """The gradient's norm before clipping, which DeepSpeed reports only where it shards."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of forward passes."""
        device = distributed.device().type
        return torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bf16")

    def moments(self) -> dict[str, Tensor]:
        """`exp_avg.NAME` and `exp_avg_sq.NAME` of all parameters, whole, float32, on every process."""
        from deepspeed.utils import safe_get_full_optimizer_state

        self._link_moments()
        states: dict[str, Tensor] = {}
        for name, parameter in self.network.named_parameters():
            for moment in MOMENTS:
                if self._sharded(parameter):
                    value = safe_get_full_optimizer_state(parameter, moment)
                else:
                    value = self.base.state[parameter][moment]
                states[f"{moment}.{name}"] = value.detach().cpu().clone()
        return states

    def load(self, weights: dict[str, Tensor], moments: dict[str, Tensor], step: int) -> None:
        """Continue from the state after so many steps."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        self._create_moments()
        for name, parameter in self.network.named_parameters():
            with torch.no_grad():
                parameter.copy_(weights[name])
            for moment in MOMENTS:
                value = moments[f"{moment}.{name}"].to(parameter.device)
                if self._sharded(parameter):
                    safe_set_full_optimizer_state(parameter, value, moment)
                else:
                    self.base.state[parameter][moment].copy_(value)
            if self._sharded(parameter):
                safe_set_full_fp32_param(parameter, weights[name].to(parameter.device))
        for name, buffer in self.network.named_buffers():
            if name in weights:
                buffer.copy_(weights[name])
        for state in self.base.state.values():
            state["step"] = torch.as_tensor(float(step))

    def _sharded(self, parameter: nn.Parameter) -> bool:
        return self.config.zero_stage > 0 and hasattr(parameter, "_hp_mapping")

    def _create_moments(self) -> None:
        """Make AdamW create its moments, which it does at its first step, without moving a weight."""
        for group in self.base.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.base.step()
        for group in self.base.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        self._link_moments()

    def _link_moments(self) -> None:
        """Tell DeepSpeed where AdamW keeps its moments.

        DeepSpeed 0.19 does so by itself after the first parameter group's first step, when those of
        the other groups do not exist yet.
        """
        if self.config.zero_stage > 0:
            self._engine.optimizer._hp_optimizer_states_linked = False
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()


def _initialize(network: nn.Module, optimizer: torch.optim.Optimizer, values: dict[str, Any]) -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.logger.setLevel("ERROR")
    # DeepSpeed 0.19 calls what torch 2.14 has renamed.
    warnings.filterwarnings("ignore", message=".*all_gather_into_tensor.*", category=FutureWarning)
    # An operator for inference only, which DeepSpeed would compile for a minute with a C++ compiler
    # that the machine may not have; training's collectives go through gloo or NCCL.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    engine, *_ = deepspeed.initialize(model=network, optimizer=optimizer, config=values)
    return engine
