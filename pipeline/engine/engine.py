"""Engine: one optimiser step over all processes, and its state as named tensors."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from pelagos.models.layers.network_layers import repeated_blocks
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.collective_network import CollectiveNetwork
from pelagos.pipeline.engine.compilation import Compiled, allow_tf32, check_compiler, compile_parts
from pelagos.pipeline.engine.matrix_optimizer import MatrixOptimizer
from pelagos.pipeline.engine.precision_check import PrecisionCheck
from pelagos.pipeline.engine.saved_tensors import PieceMap, SavedTensors, Share, TensorGroups
from pelagos.pipeline.engine.weight_conversion import converted_once, matrices
from pelagos.pipeline.engine.zero import ZeroOne, ZeroStage, ZeroThree, ZeroTwo
from pelagos.preprocessing.config import Changeable, Config
from pelagos.preprocessing.errors import ConfigError

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
LARGEST_BUCKET = 50_000_000
"""Elements that are reduced over processes at a time: 200 MB, more than it takes to fill an interconnect."""
_EXCHANGED = 1 << 22  # elements that change places at a time


class EngineConfig(Config):
    """How training is spread over processes; DeepSpeed's own configuration follows from it.

    Attributes:
        zero_stage: 0 replicates everything, 1 shards the optimiser's moments over processes, 2 also the
            gradients, 3 also the weights. A single process shards nothing. With 2 and 3 all processes must use the
            same weights in the same order: a network whose datasets use different weights needs 0 or 1.
        precision: `bf16` runs the forward pass under autocast; weights and moments stay float32.
        clip: the largest norm of the gradient; 0 for no limit.
        overlap: whether gradients are averaged over processes in buckets while the backward pass goes on, up to ZeRO 2,
            or after it.
        reduction: the type that gradients are sent and added in over processes; `bf16` halves what is sent, and each
            sum keeps three digits.
        compile: what torch.compile makes faster code of, in the minutes after the first micro-batch: the `blocks` that
            the network repeats, or the whole `network`, which takes longer; up to ZeRO 2. Losses change in the last
            bits; checkpoints do not tell the difference.
        weights: `bfloat16` has the network compute with matrices that are bf16 from step to step, where autocast would
            convert them in each; up to ZeRO 2 and with precision bf16. The weights that are trained, averaged and saved
            stay float32.
        domain: how many processes share each sample; samples are dealt to groups of so many.
        shared: what of a sample they have: some of its `rows` each (scot and wxformer), or some of the `members` that
            the loss crps scores together.
        tf32: whether GPUs round the factors of products in float32 to 10 bits of mantissa, which is several times
            faster; conditions of norms stay exact.
    """

    zero_stage: Changeable[Literal[0, 1, 2, 3]] = 1
    precision: Literal["float32", "bf16"] = "float32"
    clip: float = Field(default=1.0, ge=0)
    overlap: Changeable[bool] = True
    reduction: Literal["float32", "bf16"] = "float32"
    compile: Changeable[Compiled] = "off"
    weights: Changeable[Literal["float32", "bfloat16"]] = "float32"
    domain: Changeable[PositiveInt] = 1
    shared: Changeable[Literal["rows", "members"]] = "rows"
    tf32: Changeable[bool] = True

    @model_validator(mode="after")
    def _compiles_whole_samples(self) -> Self:
        if self.row_processes > 1 and self.compile != "off":
            raise ValueError(
                f"compile: {self.compile} does not go with domain: {self.domain}, which exchanges rows; off is right"
            )
        return self

    @property
    def row_processes(self) -> int:
        """How many processes share the rows of a sample."""
        return self.domain if self.shared == "rows" else 1

    @property
    def member_processes(self) -> int:
        """How many processes share the members of a sample."""
        return self.domain if self.shared == "members" else 1

    @property
    def dtype(self) -> torch.dtype:
        """The type that matrix products of the forward pass are computed in."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def remarks(self) -> list[str]:
        """What a run says of its arithmetic before its first step."""
        if not distributed.has_gpu():
            return []
        how = (
            "rounds factors to TF32, 10 bits (engine.tf32)" if self.tf32 else "is exact (engine.tf32: false)"
        )
        return [f"note: a product of matrices in float32 {how}"]

    def rounding(self) -> dict[str, str]:
        """The keys that the last bits depend on, and that may change from one part of a run to the next."""
        tf32 = {"tf32": str(self.tf32).lower()} if distributed.has_gpu() else {}
        shared = {"shared": self.shared} if self.member_processes > 1 else {}
        return {
            "compile": self.compile,
            "weights": self.weights,
            "domain": str(self.domain),
            **shared,
            **tf32,
        }

    def groups(self, world: int) -> int:
        """How many groups of processes have samples of their own.

        Raises:
            ConfigError: the processes cannot be put into groups of `domain`.
        """
        if world % self.domain:
            raise ConfigError(
                f"engine.domain: {self.domain} processes are to share a sample, but there are {world}; a multiple of"
                f" {self.domain} would be right"
            )
        return world // self.domain

    def build(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, micro_batch: int, accumulation: int
    ) -> "Engine":
        """An engine over the processes of the started group.

        Raises:
            ConfigError: the network has batch norms, and there are several processes, or frozen weights at ZeRO 3; or
                it cannot be compiled, or its matrices are to be updated whole and are sharded.
        """
        norms = [name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)]
        if norms and distributed.world() > 1:
            # Each process would keep statistics of its own samples, and rank 0's would end in the model.
            raise ConfigError(
                f"network: {len(norms)} batch norms ({norms[0]}, ...) would differ between {distributed.world()} "
                "processes; train in one process, or without them (scot: residual_model: convnext)"
            )
        frozen = sum(not parameter.requires_grad for parameter in network.parameters())
        if frozen and self.stage(distributed.world()) == 3:
            # DeepSpeed shards them, too, and a checkpoint would hold none.
            raise ConfigError(
                f"engine.zero_stage: 3 cannot train a network with {frozen} frozen weights; take 2"
            )
        self._check_compiled(network)
        self._check_weights(network)
        if isinstance(optimizer, MatrixOptimizer):
            self.check_whole_matrices(distributed.world())
        if distributed.has_gpu():
            allow_tf32(self.tf32)
        return Engine(self, network, optimizer, micro_batch, accumulation)

    def check_whole_matrices(self, world: int) -> None:
        """Refuse to shard what Muon needs whole.

        Raises:
            ConfigError: so many processes would shard it.
        """
        if stage := self.stage(world):
            raise ConfigError(
                f"engine.zero_stage: {stage} cuts matrices into parts for {world} processes, and optimizer.matrices:"
                " muon needs whole ones; take zero_stage: 0, or matrices: adamw"
            )

    def _check_weights(self, network: nn.Module) -> None:
        if self.weights == "float32":
            return
        if self.precision != "bf16":
            raise ConfigError("engine.weights: bfloat16 needs engine.precision: bf16")
        if self.stage(distributed.world()) == 3:
            # DeepSpeed keeps one partition of a weight, from which it gathers: the master itself.
            raise ConfigError(
                "engine.weights: bfloat16 is for ZeRO 0 to 2; set it to float32, or zero_stage to 2"
            )
        if not any(True for _ in matrices(network)):
            raise ConfigError(
                f"engine.weights: a {type(network).__name__} has no linear layers of Pelagos's own, whose weights could"
                " be bf16; leave it out"
            )
        if not hasattr(torch.Tensor, "grad_dtype"):
            raise ConfigError(
                f"engine.weights: torch {torch.__version__} cannot add up gradients of bf16 in float32; 2.10 can"
            )

    def _check_compiled(self, network: nn.Module) -> None:
        if self.compile == "off":
            return
        if self.stage(distributed.world()) == 3:
            # Its hooks gather weights around each block, in the middle of what would be compiled.
            raise ConfigError("engine.compile is for ZeRO 0 to 2: set it to off, or engine.zero_stage to 2")
        if self.compile == "blocks" and not any(repeated_blocks(network)):
            raise ConfigError(
                f"engine.compile: a {type(network).__name__} has no blocks in lists of modules; take network, or off"
            )
        check_compiler(distributed.device().type)

    def stage(self, world: int) -> int:
        """The ZeRO stage in effect: one process has nobody to share with."""
        return self.zero_stage if world > 1 else 0

    def deepspeed(self, micro_batch: int, accumulation: int, world: int, elements: int) -> dict[str, Any]:
        """DeepSpeed's configuration for a network with this many trained elements."""
        stage = self.stage(world)
        return {
            "train_micro_batch_size_per_gpu": micro_batch,
            # Up to stage 1 micro-batches add to the same gradients, and DeepSpeed sees their sum.
            "gradient_accumulation_steps": accumulation if stage > 1 else 1,
            # Up to stage 1 the engine clips: DeepSpeed does not report the norm of stage 0, and takes that of stage 1
            # in float64, 7 % of a step.
            "gradient_clipping": self.clip if stage > 1 else 0.0,
            "zero_optimization": {
                "stage": stage,
                "compute_grad_norm": stage != 1,
                # DeepSpeed allocates a buffer of this size, however small the network.
                "reduce_bucket_size": min(LARGEST_BUCKET, max(1, elements // 4)),
                # Smaller tensors stay whole on every process: DeepSpeed's default is all of a small network.
                "stage3_param_persistence_threshold": min(100_000, elements // 1000),
                # DeepSpeed's defaults (5e7, 1e9, 1e9 elements) gather all of most networks, and free nothing.
                "stage3_prefetch_bucket_size": min(LARGEST_BUCKET, elements // 16),
                "stage3_max_live_parameters": min(4 * LARGEST_BUCKET, elements // 8),
                "stage3_max_reuse_distance": min(2 * LARGEST_BUCKET, elements // 16),
                # Up to stage 1 gradients are slices of one tensor, and contiguous already.
                "contiguous_gradients": stage > 1,
                "overlap_comm": self.overlap,
            },
            "communication_data_type": "bfp16" if self.reduction == "bf16" else "fp32",
            # torch's AdamW: DeepSpeed's own is compiled at the first use, and users may have no compiler.
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**62,
        }


@dataclass(frozen=True)
class StepInfo:
    """What one optimiser step reports.

    Attributes:
        loss: the mean over this process's micro-batches.
        grad_norm: the gradient's norm over all processes, before clipping; if it is not finite, no weight was changed.
        losses: one for each of this process's micro-batches.
        stops: the number of processes that want to stop after this step.
    """

    loss: float
    grad_norm: float
    losses: tuple[float, ...]
    stops: int = 0


class Engine:
    """Trains a network with DeepSpeed; its state goes in and out as pieces of tensors by parameter name.

    Such a state is read by any number of processes at any ZeRO stage, and needs no pickle: DeepSpeed's own checkpoints
    fail on all three counts.

    Attributes:
        network: the network in training; with ZeRO 3 it has no weights between calls of `step`.
        hollow: a copy of the network that takes no memory for weights.
        partitions: this process's part of the trained weights, in float32.
        moments: this process's part of AdamW's moments, by their names; partitions like those of the weights.
        shards: which elements of which weights the partitions hold.
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
        stage = config.stage(distributed.world())
        self.network = _buffers_to_device(network) if stage == 3 else network.to(distributed.device())
        self.hollow = _hollow_copy(self.network)
        self._collective = stage == 3
        if stage == 3:
            _autocast_within(self.network, self.autocast)
        elements = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
        values = config.deepspeed(micro_batch, accumulation, distributed.world(), elements)
        self._zero = _zero_stage(stage, config, self.network, optimizer, values)
        self._accumulation = accumulation
        self._check: PrecisionCheck | None = PrecisionCheck(
            self.network, config.dtype, distributed.device().type
        )
        self.partitions, self.shards = self._zero.partitions, self._zero.shards
        self.moments = {
            key: [_moment(optimizer, partition, key) for partition in self.partitions] for key in ADAM_MOMENTS
        }
        if isinstance(optimizer, MatrixOptimizer):
            # Not the layers' own weights, which may be copies in bf16; their gradients are those that are clipped.
            gradients = {
                name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None
            }
            weights, momenta = map(self.shards.everywhere, (self.partitions, self.moments["exp_avg"]))
            optimizer.link(weights, gradients, momenta)

    def step(
        self,
        losses: Iterable[Callable[[nn.Module], Tensor]],
        rate: Callable[[dict[str, Any]], float],
        wants_stop: Callable[[], bool] = bool,
    ) -> StepInfo:
        """One optimiser step over the micro-batches whose losses are given.

        Args:
            losses: functions of the network, each the scalar loss of one micro-batch; as many as are accumulated.
            rate: gives the learning rate of a parameter group.
            wants_stop: whether this process wants to stop after this step; by default it does not.
        """
        for group in self.base.param_groups:
            group["lr"] = rate(group)
        found = []
        # At ZeRO 3 converted weights would take the memory that sharding them saves.
        with nullcontext() if self._collective else converted_once():
            for number, loss_function in enumerate(losses, start=1):
                with self._zero.computing():
                    with self.autocast():
                        loss = loss_function(self._zero.model)
                    self._zero.backward(loss / self._accumulation, last=number == self._accumulation)
                found.append(loss.detach().float())
                self._conclude_check()
        norm = self._zero.reduce()
        stops = distributed.device_sum(float(wants_stop()))
        # The single transfer of a step: each one makes the host wait for the device. The update is queued after it, and
        # computed while the host sees to the next batch.
        *values, grad_norm, stopping = torch.stack([*found, norm.to(found[0]), stops]).tolist()
        self._zero.update(finite=math.isfinite(grad_norm))
        return StepInfo(sum(values) / len(values), grad_norm, tuple(values), round(stopping))

    def _conclude_check(self) -> None:
        if self._check:
            self._check.conclude()
            self._check = None
            # Not before: the check's hooks would be compiled in, and everything again when they are gone.
            compile_parts(self.network, self.config.compile)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of forward passes."""
        device = distributed.device().type
        return torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bf16")

    def shares(self) -> dict[str, dict[str, list[Tensor]]]:
        """What this process saves of weights and moments, as views, by group and prefix of names."""
        moments = {f"{key}.": self.shards.share(partitions) for key, partitions in self.moments.items()}
        return {"weights": {"": self.shards.share(self.partitions)}, "moments": moments}

    def saved(
        self, shares: Mapping[str, Mapping[str, Sequence[Tensor]]], more: TensorGroups, *, copied: bool
    ) -> Share:
        """What this process writes of a checkpoint.

        Args:
            shares: shares of what is laid out as the weights are, by group and prefix of names.
            more: other tensors by group and name, the same on all processes.
            copied: whether training may go on before they are written.
        """
        device, root = distributed.device().type, distributed.rank() == 0
        tensors = {
            f"{group}/{prefix}{name}": piece
            for group, prefixes in shares.items()
            for prefix, share in prefixes.items()
            for name, piece in self.shards.pieces([_on_host(t, device, copied=copied) for t in share]).items()
        }
        if not root:
            return Share(tensors)
        tensors |= {
            f"{group}/{name}": _on_host(tensor, device, copied=copied)
            for group, named in more.items()
            for name, tensor in named.items()
        }
        return Share(
            tensors,
            PieceMap(
                groups={group: tuple(prefixes) for group, prefixes in shares.items()},
                cuts=self.shards.cuts,
                whole={group: tuple(named) for group, named in more.items()},
                completed_by={group: "weights" for group in shares if group not in ("weights", "moments")},
            ),
        )

    def load(self, saved: SavedTensors, step: int) -> None:
        """Continue from the state after so many steps; each process reads its part alone."""
        with self._zero.rewriting():
            self.shards.fill(self.partitions, partial(saved.read, "weights"))
        for moment, partitions in self.moments.items():
            self.shards.fill(
                partitions, lambda name, *where, key=moment: saved.read("moments", f"{key}.{name}", *where)
            )
        for name, tensor in self.others().items():
            tensor.copy_(saved.tensor("weights", name))
        for partition in self.partitions:
            self.base.state[partition]["step"].fill_(step)

    @contextmanager
    def lent(self, partitions: list[Tensor]) -> Iterator[nn.Module]:
        """The network in eval mode with other weights, for forward passes without gradients. All processes call it.

        Partitions are like the weights'. At ZeRO 3 the passes gather weights as in training: each process calls the
        network at least once, and `finish` of what it was given at the end. Up to ZeRO 2 the network is whole.
        """
        if not self._collective:
            with self._filled_hollow(self.shards.everywhere(partitions)) as network:
                yield network
            return
        modes = [(module, module.training) for module in self.network.modules()]
        self._exchange(partitions)
        try:
            yield CollectiveNetwork(self._zero.model).eval()
        finally:
            self._exchange(partitions)
            self._zero.model.train()
            for module, training in modes:
                module.training = training

    @torch.no_grad()
    def _exchange(self, partitions: list[Tensor]) -> None:
        """Let the network have other weights, and partitions those that it had."""
        if partitions is self.partitions:
            return
        with self._zero.rewriting():
            for mine, theirs in zip(self.partitions, partitions, strict=True):
                for one, other in zip(mine.split(_EXCHANGED), theirs.split(_EXCHANGED), strict=True):
                    kept = one.clone()
                    one.copy_(other)
                    other.copy_(kept)

    @contextmanager
    def _filled_hollow(self, whole: Mapping[str, Tensor]) -> Iterator[nn.Module]:
        network = self.hollow
        empty = {name: parameter.data for name, parameter in network.named_parameters() if name in whole}
        for name, parameter in network.named_parameters():
            if name in whole:
                parameter.data = whole[name]
        for mine, theirs in zip(network.buffers(), self.network.buffers(), strict=True):
            mine.copy_(theirs)
        # eval() also makes modules drop what they cache of earlier weights.
        network.eval()
        try:
            yield network
        finally:
            for name, parameter in network.named_parameters():
                if name in empty:
                    parameter.data = empty[name]

    def filled(self, saved: SavedTensors, group: str) -> nn.Module:
        """A copy of the network in eval mode on the host; its weights and buffers are views of a checkpoint's files."""
        buffers = self.buffers()
        weights = {
            id(one): nn.Parameter(saved.tensor(group, name), requires_grad=False)
            for name, one in self.hollow.named_parameters()
        }
        network = deepcopy(self.hollow, weights)
        for name, buffer in network.named_buffers():
            buffer.data = saved.tensor(group, name) if name in buffers else buffer.data.cpu()
        # It also makes modules drop what they cache of earlier weights.
        return network.eval()

    def others(self) -> dict[str, Tensor]:
        """Buffers and frozen weights, which every process has whole."""
        frozen = {
            name: parameter.data
            for name, parameter in self.network.named_parameters()
            if not parameter.requires_grad
        }
        return self.buffers() | frozen

    def buffers(self) -> dict[str, Tensor]:
        """Those of the network's buffers that its state holds."""
        kept = self.network.state_dict()
        return {name: buffer for name, buffer in self.network.named_buffers() if name in kept}


def _buffers_to_device(network: nn.Module) -> nn.Module:
    """Move a network's buffers to the device, and leave its weights, for which there may be no room."""
    for buffer in network.buffers():
        buffer.data = buffer.data.to(distributed.device())
    return network


def _zero_stage(
    stage: int,
    config: EngineConfig,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
) -> ZeroStage:
    lowered = config.weights == "bfloat16"
    if stage == 3:
        return ZeroThree(network, optimizer, values)
    if stage == 2:
        return ZeroTwo(network, optimizer, values, lowered=lowered)
    dtype = torch.bfloat16 if config.reduction == "bf16" else torch.float32
    return ZeroOne(
        network, optimizer, values, config.clip, overlap=config.overlap, dtype=dtype, lowered=lowered
    )


def _autocast_within(network: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
    """Have a network's forward pass enter autocast by itself, whatever the context that it is called in.

    DeepSpeed 0.19 switches autocast off around a network at ZeRO 3 unless `torch_autocast` is in its configuration,
    which would also send gradients in bf16.
    """
    forward = network.forward

    def cast(*arguments: Any, **named: Any) -> Any:
        with autocast():
            return forward(*arguments, **named)

    network.forward = cast


def _hollow_copy(network: nn.Module) -> nn.Module:
    """A copy of a network in eval mode whose trained weights take no memory, and which shares the frozen ones."""
    weights = {
        id(one): nn.Parameter(one.data.new_empty(0)) if one.requires_grad else one
        for one in network.parameters()
    }
    return deepcopy(network, weights).eval().requires_grad_(False)


def _moment(optimizer: torch.optim.Optimizer, partition: Tensor, key: str) -> Tensor:
    """AdamW's moment of a partition, created as AdamW would at its first step."""
    # A resumed run fills them before AdamW has taken a step.
    state = optimizer.state[partition]
    if not state:
        fused = bool(optimizer.defaults.get("fused"))
        state["step"] = torch.zeros((), dtype=torch.float32, device=partition.device if fused else "cpu")
        for moment in ADAM_MOMENTS:
            state[moment] = torch.zeros_like(partition, requires_grad=False)
    moment_of_piece: Tensor = state[key]
    return moment_of_piece


def _on_host(tensor: Tensor, device: str, *, copied: bool) -> Tensor:
    if device != "cpu":
        return tensor.detach().to("cpu").contiguous()
    return (
        tensor.detach().clone(memory_format=torch.contiguous_format)
        if copied
        else tensor.detach().contiguous()
    )
