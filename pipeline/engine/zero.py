"""ZeRO stages: what DeepSpeed is given, and where it keeps the weights, at each of them. The only user of deepspeed."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pelagos.models.layers.network_layers import repeated_blocks
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.gradient_reduction import GradientReduction
from pelagos.pipeline.engine.parameter_packing import ParameterPacking
from pelagos.pipeline.engine.tensor_shards import PackedTensor, TensorShards, consecutive, interleaved
from pelagos.pipeline.engine.weight_conversion import LoweredWeights, matrices


class ZeroStage(Protocol):
    """How a network's weights, gradients and moments are kept at a ZeRO stage (arXiv 1910.02054).

    Attributes:
        model: the module that losses are computed with.
        partitions: see Engine.
        shards: see Engine.
    """

    model: nn.Module
    partitions: list[Tensor]
    shards: TensorShards

    def computing(self) -> AbstractContextManager[None]:
        """The context of a micro-batch's forward and backward pass."""
        ...

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradients of one micro-batch's share of the step's mean loss; the last completes the step's."""
        ...

    def reduce(self) -> Tensor:
        """Average gradients over processes; returns their norm, on the device."""
        ...

    def update(self, *, finite: bool) -> None:
        """Clip gradients and update the weights, where the norm is finite."""
        ...

    def rewriting(self) -> AbstractContextManager[None]:
        """The context in which partitions may be overwritten; when it ends, the network has the new weights."""
        ...


class ZeroOne:
    """ZeRO 0 and 1: DeepSpeed sees one parameter per optimiser group, of which the network's are slices.

    DeepSpeed works on one tensor at a time: for 329 of them that cost 0.05 s per step.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        values: dict[str, Any],
        clip: float,
        *,
        overlap: bool,
        dtype: torch.dtype,
        lowered: bool = False,
    ) -> None:
        """Pack the network's weights.

        Args:
            network: in training.
            optimizer: of its weights.
            values: DeepSpeed's configuration.
            clip: the largest norm of the gradient; 0 for no limit.
            overlap: whether gradients are averaged while the backward pass goes on.
            dtype: that they are averaged in.
            lowered: whether the network computes with matrices that are bf16.
        """
        self.model, self._clip = network, clip
        self._packing = ParameterPacking(network, optimizer.param_groups)
        self._engine = _initialize(self._packing, optimizer, values)
        self._packing.link()
        self._lowered = LoweredWeights(network, self._packing) if lowered else None
        self._packing.link_gradients()
        self._sharded = self._engine.zero_optimization()
        if self._sharded:
            self.partitions = list(self._engine.optimizer.single_partition_of_fp32_groups)
        else:
            self.partitions = list(self._packing.flats)
        sizes = [partition.numel() for partition in self.partitions]
        self._overlap = overlap and distributed.world() > 1
        self._reduction = GradientReduction(self._packing, sizes if self._sharded else None, dtype)
        self.shards = TensorShards(
            _shapes(network),
            lambda rank: consecutive(self._packing.vectors, sizes, rank if self._sharded else 0),
            sizes,
            split=self._sharded,
        )

    def computing(self) -> AbstractContextManager[None]:
        """See ZeroStage."""
        return nullcontext()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """See ZeroStage."""
        if last and self._overlap:
            self._reduction.arm()
        loss.backward()

    def reduce(self) -> Tensor:
        """See ZeroStage."""
        # Summed, measured and clipped in place. At stage 1 DeepSpeed 0.19 would copy them into buckets and take the
        # norm in float64: 88 ms more per step of Poseidon-T than at stage 0.
        self._reduction.finish()
        self._packing.publish()
        self._norm = self._reduction.norm()
        return self._norm

    def update(self, *, finite: bool) -> None:
        """See ZeroStage."""
        # DeepSpeed skips a step that is not finite from stage 2 on only; weights must not become NaN at any.
        if finite:
            if self._clip:
                torch.nn.utils.clip_grads_with_norm_(list(self._packing.flats), self._clip, self._norm)
            if self._sharded:
                # The end of DeepSpeed's own reduction, without the copies that it makes first.
                self._engine.optimizer.set_gradient_accumulation_boundary(True)
                self._engine.optimizer.overlapping_partition_gradients_reduce_epilogue()
            self._engine.step()
            self._refresh()
        self._packing.clear()

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """See ZeroStage."""
        yield
        if self._sharded:
            self._engine.optimizer.update_lp_params()
        self._refresh()

    def _refresh(self) -> None:
        if self._lowered is not None:
            self._lowered.refresh()


class ZeroTwo:
    """ZeRO 2: DeepSpeed sees some twenty packed parameters, and frees the gradient of each once it is reduced.

    The network computes with slices of them, as leaves of the graph: hooks on each of 329 tensors had cost 25 % of
    the processor's time, these cost 11 %.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        values: dict[str, Any],
        *,
        lowered: bool = False,
    ) -> None:
        shapes = _shapes(network)
        # Two to a bucket: one is reduced while the backward pass fills the other.
        largest = values["zero_optimization"]["reduce_bucket_size"] // 2
        self._packing = ParameterPacking(network, optimizer.param_groups, largest)
        if lowered:
            self._packing.lowered = frozenset(matrices(network))
        members = dict(zip(self._packing.flats, self._packing.vectors, strict=True))
        self._engine, self.model = _initialize(self._packing, optimizer, values), network
        self._packing.link()
        zero = self._engine.optimizer
        self.partitions = list(zero.single_partition_of_fp32_groups)
        vectors = [
            [
                replace(member, offset=start + member.offset)
                for flat, start in zip(*group, strict=False)
                for member in members[flat]
            ]
            for group in zip(zero.bit16_groups, zero.round_robin_bit16_offsets, strict=True)
        ]
        sizes = [partition.numel() for partition in self.partitions]
        self.shards = TensorShards(shapes, partial(consecutive, vectors, sizes), sizes, split=True)

    def computing(self) -> AbstractContextManager[None]:
        """See ZeroStage."""
        return self._packing.unpacked()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """See ZeroStage."""
        self._engine.backward(loss, scale_wrt_gas=False)
        self._engine.step()

    def reduce(self) -> Tensor:
        """See ZeroStage."""
        return _norm(self._engine)

    def update(self, *, finite: bool) -> None:
        """Nothing: DeepSpeed has updated the weights with the last backward pass, or skipped the step."""

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """See ZeroStage."""
        yield
        self._engine.optimizer.update_lp_params()


class ZeroThree:
    """ZeRO 3: DeepSpeed gathers weights for a layer at a time and frees them after it.

    Parameters are not packed: slices would keep gathered weights alive until the backward pass.
    """

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, values: dict[str, Any]) -> None:
        shapes = _shapes(network)
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        _partition(network, values)
        # FSDP wraps such blocks by custom, too. With hooks on every module in them a step took 2.4 times a bare loop's;
        # with whole blocks it takes 1.8 to 2.2 (Poseidon-T).
        self._engine = self.model = _initialize(network, optimizer, values, repeated_blocks(network))
        zero = self._engine.optimizer
        self.partitions = list(zero.fp32_partitioned_groups_flat)
        vectors = [
            [
                PackedTensor(names[id(parameter)], 0, shapes[names[id(parameter)]].numel())
                for parameter in group
            ]
            for group in zero.fp16_groups
        ]
        sizes = [partition.numel() for partition in self.partitions]
        self.shards = TensorShards(
            shapes, partial(interleaved, vectors, distributed.world()), sizes, split=True
        )

    def computing(self) -> AbstractContextManager[None]:
        """See ZeroStage."""
        return nullcontext()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """See ZeroStage."""
        self._engine.backward(loss, scale_wrt_gas=False)
        self._engine.step()

    def reduce(self) -> Tensor:
        """See ZeroStage."""
        # DeepSpeed 0.19 keeps the gradient of a weight that the next step does not use, and would apply it again.
        self._engine.optimizer.grad_partitions_flat_buffer.zero_()
        return _norm(self._engine)

    def update(self, *, finite: bool) -> None:
        """Nothing: DeepSpeed has updated the weights with the last backward pass, or skipped the step."""

    @contextmanager
    def rewriting(self) -> Iterator[None]:
        """See ZeroStage."""
        zero = self._engine.optimizer
        zero.parameter_offload.partition_all_parameters()
        yield
        # As DeepSpeed's own step ends: partitions first, then the small weights that every process has whole.
        for group in range(len(zero.fp16_groups)):
            zero._reassign_or_swap_out_partitioned_parameters(group)
        if zero.persistent_parameters:
            zero.persistent_parameters[0].all_gather(zero.persistent_parameters)


def largest_layer(network: nn.Module) -> int:
    """Elements of the largest layer that ZeRO 3 gathers at once: a repeated block, or what a module has by itself."""
    blocks = list(repeated_blocks(network))
    inside = {id(part) for block in blocks for part in block.modules()}
    others = (part for part in network.modules() if id(part) not in inside)
    sizes = [sum(weight.numel() for weight in block.parameters()) for block in blocks]
    sizes += [sum(weight.numel() for weight in part.parameters(recurse=False)) for part in others]
    return max(sizes)


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    """The shapes of trained weights by name; frozen ones are in no partition."""
    return {
        name: parameter.shape for name, parameter in network.named_parameters() if parameter.requires_grad
    }


def _partition(network: nn.Module, values: dict[str, Any]) -> None:
    """Give each process its part of the weights that rank 0 has; one at a time is whole on the device."""
    deepspeed, device = _deepspeed(), distributed.device()
    parameters: list[Any] = list(network.parameters())  # which DeepSpeed gives methods
    for parameter in parameters:
        # Where a weight is not on the device, or hollow (see hollow_build), there is room for it only now.
        parameter.data = parameter.data.to(device).contiguous()
        if parameter is parameters[0]:
            holder = nn.ParameterList([parameter])
            deepspeed.zero.Init(module=holder, config_dict_or_path=values, dtype=torch.float32)
        else:
            parameters[0].convert_to_zero_parameters(param_list=[parameter])
    distributed.from_root(network.buffers())


def _norm(engine: Any) -> Tensor:
    """The norm of the last step's gradient before DeepSpeed clipped it; infinite where it skipped the step."""
    return torch.as_tensor(float("inf") if engine.optimizer.overflow else engine.get_global_grad_norm())


def _initialize(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    values: dict[str, Any],
    layers: Iterable[nn.Module] = (),
) -> Any:
    """DeepSpeed's engine; ZeRO 3 gathers the weights of each of the layers at once, not module by module."""
    deepspeed = _deepspeed()
    from deepspeed.utils.z3_leaf_module import set_z3_leaf_module

    for layer in layers:
        set_z3_leaf_module(layer, True)
    with _reduced_weight_by_weight():
        engine, *_ = deepspeed.initialize(model=network, optimizer=optimizer, config=values)
    return engine


@contextmanager
def _reduced_weight_by_weight() -> Iterator[None]:
    """Within it, ZeRO 3 is set up to take the gradient of each weight of a block when that is complete.

    DeepSpeed 0.19 would take those of a whole block by a hook of torch, which comes after each call of the block in a
    rollout, with some gradients still to come, and at once where the block's input needs none.
    """
    from deepspeed.runtime.zero import stage3

    kept, stage3.z3_leaf_parameter = stage3.z3_leaf_parameter, lambda _: False
    try:
        yield
    finally:
        stage3.z3_leaf_parameter = kept


def _deepspeed() -> Any:
    """The package, told what it would otherwise do by itself."""
    device = distributed.device()
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    else:
        # It takes the device of this number, even where each process sees one alone (--gpus-per-task=1).
        os.environ["LOCAL_RANK"] = str(device.index)
    import deepspeed

    deepspeed.logger.setLevel("ERROR")
    # DeepSpeed 0.19 calls collectives by names that torch 2.14 deprecates.
    warnings.filterwarnings(
        "ignore", message=".*(all_gather_into|reduce_scatter)_tensor.*", category=FutureWarning
    )
    # An operator that only inference uses. DeepSpeed would compile it for 57 s, with a C++ compiler that the machine
    # may not have; training's collectives go through gloo or NCCL.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
