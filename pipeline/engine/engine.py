"""DeepSpeed behind step, save and load: the only user of deepspeed."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.parameter_packing import Packing
from pelagos.pipeline.engine.tensor_shards import Member, Shards, consecutive, interleaved
from pelagos.preprocessing.config import Changeable, Config

MOMENTS = ("exp_avg", "exp_avg_sq")
LARGEST_BUCKET = 50_000_000
"""Numbers that are summed over processes at a time: 200 MB, where a network's bandwidth is long reached."""


class EngineConfig(Config):
    """How training is spread over processes; DeepSpeed's own configuration follows from it.

    Attributes:
        zero_stage: 0 replicates everything, 1 shards the optimiser's moments over processes, 2 also
            the gradients, 3 also the weights. Nothing is sharded over one process. With 2 and 3 all
            processes must use the same weights at the same time: networks of which datasets use
            different weights want 0 or 1.
        precision: `bf16` computes the forward pass under autocast; weights and moments stay float32.
        clip: largest norm of the gradient, 0 for no limit.
    """

    zero_stage: Changeable[Literal[0, 1, 2, 3]] = 1
    precision: Literal["float32", "bf16"] = "float32"
    clip: float = Field(default=1.0, ge=0)

    @property
    def dtype(self) -> torch.dtype:
        """Of the products of the forward pass."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def build(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, micro_batch: int, accumulation: int
    ) -> "Engine":
        """An engine over the processes of the started group."""
        return Engine(self, network, optimizer, micro_batch, accumulation)

    def stage(self, world: int) -> int:
        """The ZeRO stage that so many processes use."""
        return self.zero_stage if world > 1 else 0

    def deepspeed(self, micro_batch: int, accumulation: int, world: int, elements: int) -> dict[str, Any]:
        """DeepSpeed's JSON for a network of so many trained numbers."""
        stage = self.stage(world)
        return {
            "train_micro_batch_size_per_gpu": micro_batch,
            # Up to stage 1 gradients add up in one place, and DeepSpeed sees the sum.
            "gradient_accumulation_steps": accumulation if stage > 1 else 1,
            # Up to stage 1 gradients are whole, and the engine clips: DeepSpeed does not tell the norm of stage 0, and
            # takes that of stage 1 in float64, which took 7 % of a step.
            "gradient_clipping": self.clip if stage > 1 else 0.0,
            "zero_optimization": {
                "stage": stage,
                "compute_grad_norm": stage != 1,
                # A buffer is allocated in this size, whatever the network's.
                "reduce_bucket_size": min(LARGEST_BUCKET, max(1, elements // 4)),
                # Smaller tensors stay whole everywhere: DeepSpeed's 100 000 is all of a small network.
                "stage3_param_persistence_threshold": min(100_000, elements // 1000),
                # Slices of one tensor are contiguous already.
                "contiguous_gradients": stage > 1,
            },
            # The optimiser is torch's AdamW: DeepSpeed's own would be compiled at the first use.
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**62,
        }


@dataclass(frozen=True)
class StepInfo:
    """What one optimiser step reports.

    Attributes:
        loss: this process's mean over its micro-batches.
        grad_norm: of all processes, before clipping; where it is not finite, no weight was moved.
        losses: this process's micro-batches.
    """

    loss: float
    grad_norm: float
    losses: tuple[float, ...]


class Engine:
    """Trains a network with DeepSpeed; states go in and out as whole tensors by parameter name.

    States are independent of the number of processes and of the ZeRO stage, and need no pickle,
    which is why DeepSpeed's own checkpoints are not used.

    Attributes:
        network: that is trained. With ZeRO 3 its weights are elsewhere between calls of `step`.
        skeleton: the same network without memory for weights.
        pieces: this process's part of the trained weights, in float32.
        shards: which numbers of which weights those are.
    """

    def __init__(
        self,
        config: EngineConfig,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        micro_batch: int,
        accumulation: int,
    ) -> None:
        self.config, self.base = config, optimizer
        self.network = network.to(distributed.device())
        self.skeleton = _hollow(self.network)
        stage = config.stage(distributed.world())
        elements = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        values = config.deepspeed(micro_batch, accumulation, distributed.world(), elements)
        cls = (Packed, Packed, Reduced, Gathered)[stage]
        self._zero: Zero = cls(self.network, optimizer, values, config.clip)
        self._accumulation = accumulation
        self.pieces, self.shards = self._zero.pieces, self._zero.shards
        self._moments = {key: [_moment(optimizer, piece, key) for piece in self.pieces] for key in MOMENTS}

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
        found = []
        for loss_function in losses:
            with self._zero.computing():
                with self.autocast():
                    loss = loss_function(self._zero.model)
                self._zero.backward(loss / self._accumulation)
            found.append(loss.detach().float())
        norm = self._zero.step()
        # One transfer from the device, after everything was queued on it.
        *values, grad_norm = torch.stack([*found, norm.to(found[0])]).tolist()
        return StepInfo(sum(values) / len(values), grad_norm, tuple(values))

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of forward passes."""
        device = distributed.device().type
        return torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bf16")

    def weights(self) -> dict[str, Tensor]:
        """Weights and buffers by name, on the host of rank 0; nothing elsewhere. All processes call it."""
        return self.named(self.pieces)

    def moments(self) -> dict[str, Tensor]:
        """`exp_avg.NAME` and `exp_avg_sq.NAME` of trained weights, likewise."""
        return {
            f"{moment}.{name}": tensor
            for moment, pieces in self._moments.items()
            for name, tensor in self.shards.collect(pieces).items()
        }

    def named(self, pieces: list[Tensor]) -> dict[str, Tensor]:
        """What is kept in pieces like the weights', and buffers, by name, likewise."""
        whole = self.shards.collect(pieces)
        if distributed.rank() == 0:
            whole |= {name: tensor.detach().cpu().clone() for name, tensor in self._others().items()}
        return whole

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], step: int) -> None:
        """Continue from the state after so many steps."""
        with self._zero.rewriting():
            self.shards.scatter(weights, self.pieces)
        for moment, pieces in self._moments.items():
            named = {
                name.removeprefix(f"{moment}."): tensor
                for name, tensor in moments.items()
                if name.startswith(f"{moment}.")
            }
            self.shards.scatter(named, pieces)
        for name, tensor in self._others().items():
            tensor.copy_(weights[name])
        for piece in self.pieces:
            self.base.state[piece]["step"].fill_(step)

    def _others(self) -> dict[str, Tensor]:
        """Buffers and weights that are not trained, which are whole everywhere."""
        kept = self.network.state_dict()
        buffers = {name: buffer for name, buffer in self.network.named_buffers() if name in kept}
        frozen = {
            name: parameter.data
            for name, parameter in self.network.named_parameters()
            if not parameter.requires_grad
        }
        return buffers | frozen


class Zero(Protocol):
    """What DeepSpeed does at a ZeRO stage.

    Attributes:
        model: what losses are computed with.
        pieces: see Engine.
        shards: see Engine.
    """

    model: nn.Module
    pieces: list[Tensor]
    shards: Shards

    def computing(self) -> AbstractContextManager[None]:
        """The context of a micro-batch's forward and backward pass."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch's loss, which was divided by their number."""
        ...

    def step(self) -> Tensor:
        """Sum gradients over processes, clip them, move the weights; returns the norm before clipping."""
        ...

    def rewriting(self) -> AbstractContextManager[None]:
        """The context in which pieces may be written to; at its end the network has the new weights."""
        ...


class Packed:
    """ZeRO 0 and 1: DeepSpeed sees one parameter an optimiser group, of which the network's are slices."""

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, values: dict[str, Any], clip: float
    ) -> None:
        self.model, self._clip = network, clip
        self._packing = Packing(network, optimizer.param_groups)
        self._engine = _initialize(self._packing, optimizer, values)
        self._packing.link()
        self._packing.link_gradients()
        self._sharded = self._engine.zero_optimization()
        if self._sharded:
            self.pieces = list(self._engine.optimizer.single_partition_of_fp32_groups)
        else:
            self.pieces = list(self._packing.flats)
        sizes = [piece.numel() for piece in self.pieces]
        self.shards = Shards(
            {name: parameter.shape for name, parameter in network.named_parameters()},
            lambda rank: consecutive(self._packing.vectors, sizes, rank if self._sharded else 0),
            split=self._sharded,
        )

    def computing(self) -> AbstractContextManager[None]:
        """See Zero."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """See Zero."""
        loss.backward()

    def step(self) -> Tensor:
        """See Zero."""
        gradients = self._packing.publish()
        distributed.average(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        if norm.isfinite():
            if self._clip:
                torch.nn.utils.clip_grads_with_norm_(list(self._packing.flats), self._clip, norm)
            if self._sharded:
                # What DeepSpeed's own summing of gradients ends with, for which it would copy them first.
                self._engine.optimizer.set_gradient_accumulation_boundary(True)
                self._engine.optimizer.overlapping_partition_gradients_reduce_epilogue()
            self._engine.step()
        self._packing.clear()
        return norm

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """See Zero."""
        yield
        if self._sharded:
            self._engine.optimizer.update_lp_params()


class Reduced:
    """ZeRO 2: DeepSpeed sees some packed parameters, and takes away the gradient of each as soon as it is whole."""

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, values: dict[str, Any], clip: float
    ) -> None:
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        # Two to a bucket, so that one fills while the next is being put together.
        largest = values["zero_optimization"]["reduce_bucket_size"] // 2
        self._packing = Packing(network, optimizer.param_groups, largest)
        members = dict(zip(self._packing.flats, self._packing.vectors, strict=True))
        self._engine, self.model = _initialize(self._packing, optimizer, values), network
        self._packing.link()
        zero = self._engine.optimizer
        self.pieces = list(zero.single_partition_of_fp32_groups)
        vectors = [
            [
                replace(m, offset=start + m.offset)
                for flat, start in zip(*group, strict=False)
                for m in members[flat]
            ]
            for group in zip(zero.bit16_groups, zero.round_robin_bit16_offsets, strict=True)
        ]
        sizes = [piece.numel() for piece in self.pieces]
        self.shards = Shards(shapes, partial(consecutive, vectors, sizes), split=True)

    def computing(self) -> AbstractContextManager[None]:
        """See Zero."""
        return self._packing.unpacked()

    def backward(self, loss: Tensor) -> None:
        """See Zero."""
        self._engine.backward(loss, scale_wrt_gas=False)
        self._engine.step()

    def step(self) -> Tensor:
        """See Zero."""
        return _norm(self._engine)

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """See Zero."""
        yield
        self._engine.optimizer.update_lp_params()


class Gathered:
    """ZeRO 3: DeepSpeed takes each gradient and each weight away where it is not needed."""

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, values: dict[str, Any], clip: float
    ) -> None:
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        self._engine = self.model = _initialize(network, optimizer, values, _layers(network))
        zero = self._engine.optimizer
        self.pieces = list(zero.fp32_partitioned_groups_flat)
        vectors = [
            [Member(names[id(parameter)], 0, shapes[names[id(parameter)]].numel()) for parameter in group]
            for group in zero.fp16_groups
        ]
        self.shards = Shards(shapes, partial(interleaved, vectors, distributed.world()), split=True)

    def computing(self) -> AbstractContextManager[None]:
        """See Zero."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """See Zero."""
        self._engine.backward(loss, scale_wrt_gas=False)
        self._engine.step()

    def step(self) -> Tensor:
        """See Zero."""
        # DeepSpeed would give weights without a gradient in the next step the one of this.
        self._engine.optimizer.grad_partitions_flat_buffer.zero_()
        return _norm(self._engine)

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """See Zero."""
        zero = self._engine.optimizer
        zero.parameter_offload.partition_all_parameters()
        yield
        # As at the end of DeepSpeed's own step: the partitions, then small weights, which are whole everywhere.
        for group in range(len(zero.fp16_groups)):
            zero._reassign_or_swap_out_partitioned_parameters(group)
        if zero.persistent_parameters:
            zero.persistent_parameters[0].all_gather(zero.persistent_parameters)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """What the network applies one after the other: members of lists, without lists of their own."""
    for modules in network.modules():
        if isinstance(modules, nn.ModuleList):
            for layer in modules:
                if not any(isinstance(part, nn.ModuleList) for part in layer.modules()):
                    yield layer


def _norm(engine: Any) -> Tensor:
    """The norm of the last step's gradient, which DeepSpeed has clipped; infinite where it took no step."""
    return torch.as_tensor(float("inf") if engine.optimizer.overflow else engine.get_global_grad_norm())


def _hollow(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode whose trained weights are empty."""
    copy = deepcopy(network).eval().requires_grad_(False)
    for mine, theirs in zip(copy.parameters(), network.parameters(), strict=True):
        if theirs.requires_grad:
            mine.data = mine.data.new_empty(0)
    return copy


def _moment(optimizer: torch.optim.Optimizer, piece: Tensor, key: str) -> Tensor:
    """AdamW's moment of a piece, made as AdamW would at its first step."""
    state = optimizer.state[piece]
    if not state:
        fused = bool(optimizer.defaults.get("fused"))
        state["step"] = torch.zeros((), dtype=torch.float32, device=piece.device if fused else "cpu")
        for moment in MOMENTS:
            state[moment] = torch.zeros_like(piece, requires_grad=False)
    moment_of_piece: Tensor = state[key]
    return moment_of_piece


def _initialize(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    wholes: Iterable[nn.Module] = (),
) -> Any:
    """DeepSpeed's engine; of some modules ZeRO 3 gathers all weights at once, rather than of each of their parts."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    from deepspeed.utils.z3_leaf_module import set_z3_leaf_module

    deepspeed.logger.setLevel("ERROR")
    # DeepSpeed 0.19 calls what torch 2.14 has renamed.
    warnings.filterwarnings(
        "ignore", message=".*(all_gather_into|reduce_scatter)_tensor.*", category=FutureWarning
    )
    # An operator for inference only, which DeepSpeed would compile for a minute with a C++ compiler
    # that the machine may not have; training's collectives go through gloo or NCCL.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    for module in wholes:
        set_z3_leaf_module(module, True)
    engine, *_ = deepspeed.initialize(model=network, optimizer=optimizer, config=values)
    return engine
