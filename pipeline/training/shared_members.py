"""Shared members: several processes make the members of each sample, some of them each, and score them together.

The almost fair CRPS needs all members, but its gradient by one of them only the values of the others. So these are
gathered without gradients, and each process goes back through its own members alone.

Shapes: B samples, F frames, M members of all processes, m of this one, C channels, H rows, W columns, Z random numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pelagos.pipeline.engine.row_processes import row_processes
from pelagos.preprocessing.errors import ConfigError


def _alone(x: Tensor) -> Tensor:
    return x[None]


@dataclass(frozen=True, eq=False)
class SharedMembers:
    """This process's place among those that share the members of its samples.

    Attributes:
        rank: which of them it is.
        size: how many there are; 1 where each process makes all members.
        gather: (size, ...) a tensor of all of them, in order, without gradients.
    """

    rank: int = 0
    size: int = 1
    gather: Callable[[Tensor], Tensor] = _alone

    def own(self, drawn_NZ: Tensor, samples: int) -> Tensor:
        """(B m F, Z) of what has been drawn for all members (B M F, Z): the same numbers as in one process."""
        if self.size == 1:
            return drawn_NZ
        parts = torch.unflatten(drawn_NZ, 0, (samples, self.size, -1))
        return parts[:, self.rank].flatten(0, 1)

    def together(self, own_BMCHW: Tensor) -> Tensor:
        """(B, M, C, H, W) all members of (B, m, C, H, W) this process's, with gradients of these alone."""
        if self.size == 1:
            return own_BMCHW
        parts = list(self.gather(own_BMCHW.detach()).unbind(0))
        parts[self.rank] = own_BMCHW
        return torch.cat(parts, 1)

    def share(self, loss: Tensor) -> Tensor:
        """The loss with a gradient whose mean over the processes is that of all members."""
        if self.size == 1:
            return loss
        # Each process knows a part of the gradient, and the engine takes the mean, not the sum.
        return loss.detach() + self.size * (loss - loss.detach())


ALONE = SharedMembers()


def share_members(network: nn.Module, members: int, size: int) -> SharedMembers:
    """The members of this process's samples over so many processes, all of which call it.

    Raises:
        ConfigError: see `check_members`.
    """
    check_members(network, members, size)
    if size == 1:
        return ALONE
    group = row_processes(size)
    return SharedMembers(group.rank, group.size, group.gather)


def check_members(network: nn.Module, members: int, size: int) -> None:
    """Refuse members that cannot be dealt to so many processes.

    Raises:
        ConfigError: they do not divide, or the network drops activations at random.
    """
    if members % size:
        raise ConfigError(
            f"engine.domain: {size} processes cannot make the same number of {members} members (loss.members);"
            f" a multiple of {size} would be right"
        )
    if size > 1 and (dropping := [name for name, part in network.named_modules() if _draws(part)]):
        raise ConfigError(
            f"engine.shared: members: {dropping[0] or type(network).__name__} drops activations at random, on all"
            " processes the same, so that their members would resemble each other; a network without dropout is right"
        )


def _draws(part: nn.Module) -> bool:
    """Whether a part of a network draws in training: dropout, dropped paths, and what says so itself."""
    dropout = part.p if isinstance(part, nn.Dropout) else getattr(part, "drop_prob", 0.0)
    return bool(dropout) or bool(getattr(part, "draws", False))
