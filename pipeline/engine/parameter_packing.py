"""Parameter packing: the parameters of an optimiser group become slices of one tensor, or of a few.

An operation on a small tensor costs the same for one element as for a thousand. With many small parameters, reducing
gradients, clipping, AdamW and moving averages would take longer than the network itself; on packed parameters each
is one operation per group.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pelagos.pipeline.engine.tensor_shards import PackedTensor
from pelagos.preprocessing.errors import ConfigError

ALIGNMENT = 16
"""Slices begin at multiples of this many elements, 64 bytes, so that kernels read them as fast as other tensors."""


class ParameterPacking(nn.Module):
    """A few flat parameters per group, of which the network's own become slices.

    Attributes:
        flats: the flat parameters, in the groups' order.
        vectors: the network's parameters in each of them.
        parameters_of: these parameters themselves.
        ordered: all of them in the network's order.
        gradients: one tensor for each flat parameter, once gradients are linked.
        lowered: parameters that are bf16 where they are unpacked.
    """

    def __init__(
        self, network: nn.Module, groups: Sequence[dict[str, Any]], largest: float = float("inf")
    ) -> None:
        """Pack the parameters, and give the flat ones to the groups.

        Args:
            network: the network whose parameters are packed.
            groups: the optimiser's.
            largest: the most elements of a flat parameter, unless a single one of the network has more.

        Raises:
            ConfigError: the parameters of a group differ in type.
        """
        super().__init__()
        names = {parameter: name for name, parameter in network.named_parameters()}
        self.ordered = tuple(names)
        self.parameters_of: list[list[nn.Parameter]] = []
        self.vectors: list[list[PackedTensor]] = []
        self.flats = nn.ParameterList()
        for group in groups:
            packs = list(_packs(group["params"], largest))
            vectors = [_members(pack, names) for pack in packs]
            group["params"] = list(map(_flat, packs, vectors))
            self.parameters_of += packs
            self.vectors += vectors
            self.flats += group["params"]
        # A parameter that modules share has several places.
        self._places: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
        for module in network.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    self._places.setdefault(parameter, []).append((module, key))
        self.gradients: list[Tensor] = []
        self.lowered: frozenset[nn.Parameter] = frozenset()

    def link(self) -> None:
        """Make the network's parameters slices of the flat ones, which DeepSpeed may have moved."""
        for parameters, slices in zip(self.parameters_of, self.slices(self.flats), strict=True):
            for parameter, part in zip(parameters, slices, strict=True):
                parameter.data = part

    def link_gradients(self) -> None:
        """Make their gradients slices of one tensor per flat parameter, which backward passes add to."""
        self.gradients = [torch.zeros_like(flat) for flat in self.flats]
        for parameters, slices in zip(self.parameters_of, self.slices(self.gradients), strict=True):
            for parameter, part in zip(parameters, slices, strict=True):
                parameter.grad = part

    def clear(self) -> None:
        """Set all gradients to zero, in place."""
        torch._foreach_zero_(self.gradients)

    def publish(self) -> list[Tensor]:
        """Give the flat parameters their gradients, and return these."""
        for flat, gradient in zip(self.flats, self.gradients, strict=True):
            # A new tensor over the same memory: DeepSpeed may point the one that it is given elsewhere.
            flat.grad = gradient.detach()
        return self.gradients

    @contextmanager
    def unpacked(self) -> Iterator[None]:
        """The context in which the network computes with the flat parameters, which then get the gradients.

        Each gets its whole gradient at once, when the backward pass has that of its last slice.
        """
        try:
            for parameters, flat, members in zip(self.parameters_of, self.flats, self.vectors, strict=True):
                shapes = [parameter.shape for parameter in parameters]
                lowered = [parameter in self.lowered for parameter in parameters]
                parts: tuple[Tensor, ...] = _Unpack.apply(flat, members, shapes, lowered)
                for parameter, part in zip(parameters, parts, strict=True):
                    self._place(parameter, part)
            yield
        finally:
            for parameter in self._places:
                self._place(parameter, parameter)

    def _place(self, parameter: nn.Parameter, tensor: Tensor) -> None:
        for module, key in self._places[parameter]:
            module._parameters[key] = tensor  # type: ignore[assignment]

    def slices(self, flats: Iterable[Tensor]) -> Iterator[list[Tensor]]:
        """The parameters' slices of tensors like the flat ones."""
        for parameters, members, flat in zip(self.parameters_of, self.vectors, flats, strict=True):
            yield _slices(flat.data, members, [parameter.shape for parameter in parameters])


class _Unpack(torch.autograd.Function):
    """Slices of a tensor, whose gradients are joined in one go: autograd would add each to a tensor of zeros."""

    @staticmethod
    def forward(
        ctx: Any,
        flat: Tensor,
        members: Sequence[PackedTensor],
        shapes: Sequence[torch.Size],
        lowered: Sequence[bool],
    ) -> tuple[Tensor, ...]:
        # The gradient of a parameter that was not used is None, not zeros that would be copied.
        ctx.set_materialize_grads(False)
        ctx.members, ctx.like = members, flat.detach()
        parts = _slices(flat, members, shapes)
        if any(lowered):
            low = _slices(flat.to(torch.bfloat16), members, shapes)
            parts = [pair[is_low] for is_low, pair in zip(lowered, zip(parts, low, strict=True), strict=True)]
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None, None, None]:
        whole = torch.zeros_like(ctx.like)
        present = [
            (whole[member.offset : member.offset + member.size], gradient.reshape(-1))
            for member, gradient in zip(ctx.members, gradients, strict=True)
            if gradient is not None
        ]
        torch._foreach_copy_([target for target, _ in present], [gradient for _, gradient in present])
        return whole, None, None, None


def _slices(flat: Tensor, members: Sequence[PackedTensor], shapes: Sequence[torch.Size]) -> list[Tensor]:
    return [
        flat[member.offset : member.offset + member.size].view(shape)
        for member, shape in zip(members, shapes, strict=True)
    ]


def _packs(parameters: Sequence[nn.Parameter], largest: float) -> Iterator[list[nn.Parameter]]:
    """Parameters in order, joined as long as a pack has no more than the largest number of elements."""
    pack: list[nn.Parameter] = []
    for parameter in parameters:
        if pack and sum(part.numel() for part in pack) + parameter.numel() > largest:
            yield pack
            pack = []
        pack.append(parameter)
    if pack:
        yield pack


def _members(parameters: Sequence[nn.Parameter], names: dict[nn.Parameter, str]) -> list[PackedTensor]:
    members, offset = [], 0
    for parameter in parameters:
        members.append(PackedTensor(names[parameter], offset, parameter.numel()))
        offset += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
    return members


def _flat(parameters: Sequence[nn.Parameter], members: Sequence[PackedTensor]) -> nn.Parameter:
    types = {parameter.dtype for parameter in parameters}
    if len(types) > 1:
        found = ", ".join(sorted(map(str, types)))
        raise ConfigError(f"the network has trained parameters of several types, {found}; give it one")
    size = members[-1].offset + -(-members[-1].size // ALIGNMENT) * ALIGNMENT
    flat = parameters[0].new_zeros(size)
    for parameter, member in zip(parameters, members, strict=True):
        flat[member.offset : member.offset + member.size] = parameter.detach().reshape(-1)
    return nn.Parameter(flat)
