"""Packing: the parameters of an optimiser's group as slices of one tensor, and their gradients of another.

What is done to every parameter, one after the other, takes as long for a thousand numbers as for one:
in networks of many small tensors, summing gradients over processes, clipping, AdamW and running means
would take longer than the arithmetic. On slices of one tensor each is a single operation a group.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pelagos.pipeline.shards import Member
from pelagos.preprocessing.errors import ConfigError

ALIGNMENT = 16
"""Elements to whose multiples slices begin, so that none is slower to read than a tensor of its own."""


class Packing(nn.Module):
    """One parameter a group; those of the network become slices of it.

    Attributes:
        flats: the groups' parameters, in the groups' order.
        vectors: which slices they have.
    """

    def __init__(self, network: nn.Module, groups: Sequence[dict[str, Any]]) -> None:
        """Pack, and put the packed parameters into the groups.

        Raises:
            ConfigError: the parameters of a group have several types.
        """
        super().__init__()
        self._parameters_of = [list(group["params"]) for group in groups]
        names = {parameter: name for name, parameter in network.named_parameters()}
        self.vectors = [_members(members, names) for members in self._parameters_of]
        self.flats = nn.ParameterList(map(_flat, self._parameters_of, self.vectors))
        for group, flat in zip(groups, self.flats, strict=True):
            group["params"] = [flat]
        self._gradients = [torch.zeros_like(flat) for flat in self.flats]

    def link(self) -> None:
        """Make the network's parameters and gradients slices of the packed ones, wherever those are now."""
        for parameters, members, flat, gradient in zip(
            self._parameters_of, self.vectors, self.flats, self._gradients, strict=True
        ):
            for parameter, member in zip(parameters, members, strict=True):
                place = slice(member.offset, member.offset + member.size)
                shape = parameter.shape
                parameter.data = flat.data[place].view(shape)
                parameter.grad = gradient[place].view(shape)

    def clear(self) -> None:
        """Set all gradients to zero; they stay where they are, so that backward passes add to them."""
        torch._foreach_zero_(self._gradients)

    def publish(self) -> list[Tensor]:
        """Give the packed parameters their gradients, and return these."""
        for flat, gradient in zip(self.flats, self._gradients, strict=True):
            # DeepSpeed may point the gradient that it is given at other memory.
            flat.grad = gradient.detach()
        return self._gradients


def _members(parameters: Sequence[nn.Parameter], names: dict[nn.Parameter, str]) -> list[Member]:
    members, offset = [], 0
    for parameter in parameters:
        members.append(Member(names[parameter], offset, parameter.numel()))
        offset += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
    return members


def _flat(parameters: Sequence[nn.Parameter], members: Sequence[Member]) -> nn.Parameter:
    types = {parameter.dtype for parameter in parameters}
    if len(types) > 1:
        found = ", ".join(sorted(map(str, types)))
        raise ConfigError(f"the network has trained parameters of several types, {found}; give it one")
    size = members[-1].offset + -(-members[-1].size // ALIGNMENT) * ALIGNMENT
    flat = parameters[0].new_zeros(size)
    for parameter, member in zip(parameters, members, strict=True):
        flat[member.offset : member.offset + member.size] = parameter.detach().reshape(-1)
    return nn.Parameter(flat)
