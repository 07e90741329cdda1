"""Average: the running mean of a network's weights, split over processes as the weights are."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pelagos.pipeline.engine.engine import Engine


class Average:
    """The running mean of the weights that an engine trains, with a short memory at the start of a run.

    With decay 0 it is the weights themselves, and costs nothing.
    """

    def __init__(self, engine: Engine, decay: float) -> None:
        self._engine, self._decay = engine, decay
        self._pieces = [piece.detach().clone() for piece in engine.pieces] if decay else engine.pieces

    def update(self, step: int) -> None:
        """Take in the weights after so many steps."""
        if self._decay:
            decay = min(self._decay, (1 + step) / (10 + step))
            weights = [piece.detach() for piece in self._engine.pieces]
            torch._foreach_lerp_(self._pieces, weights, 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Mean weights, and buffers, by name, on the host of rank 0; nothing elsewhere. All processes call it."""
        return self._engine.named(self._pieces)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state."""
        if self._decay:
            self._engine.shards.scatter(state, self._pieces)

    @contextmanager
    def network(self) -> Iterator[nn.Module]:
        """The network in eval mode with the mean weights, whole on every process. All processes call it.

        Where processes hold parts, the whole takes 4 bytes a weight while the context lasts.
        """
        network, source = self._engine.skeleton, self._engine.network
        whole = self._engine.shards.everywhere(self._pieces)
        empty = {name: parameter.data for name, parameter in network.named_parameters() if name in whole}
        for name, parameter in network.named_parameters():
            if name in whole:
                parameter.data = whole[name]
        for mine, theirs in zip(network.buffers(), source.buffers(), strict=True):
            mine.copy_(theirs)
        # What modules keep of former weights is forgotten when they are set to evaluation.
        network.eval()
        try:
            yield network
        finally:
            for name, parameter in network.named_parameters():
                if name in empty:
                    parameter.data = empty[name]
